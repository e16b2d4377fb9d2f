"""What people do with tasks: the port, following, reports."""
