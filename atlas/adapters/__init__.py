"""What touches the network: Postgres and OpenAI."""
