"""The commands of `atlas`, a module a subject."""
