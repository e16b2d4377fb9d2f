"""What runs on one machine without Docker: the embedded Postgres and the stack around it."""
