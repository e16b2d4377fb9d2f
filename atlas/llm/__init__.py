"""Language models: the port, OpenAI, the offline writer, the models and their lifecycle."""
