"""Answers a question: retrieve, prompt, generate, check."""
