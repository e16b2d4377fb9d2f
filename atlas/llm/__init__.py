"""Language models: the port, OpenAI, the passages alone, a replay, the models and their lifecycle."""
