"""Mermaid diagrams of a reply, parsed by Mermaid itself before anybody sees them. Another process does it."""
