"""Where a worker learns that there may be work."""
