"""The knowledge service: HTTP, who may call it, its processes."""
