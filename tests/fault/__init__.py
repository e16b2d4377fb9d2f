"""Trouble on the way to the provider: each line of what once went wrong, with the figure that it must reach."""
