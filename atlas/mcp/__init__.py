"""Atlas for agents, by the Model Context Protocol: what is decided, what is to be done, and what was done."""
