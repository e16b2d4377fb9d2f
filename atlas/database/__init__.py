"""Postgres: calls of the SQL functions, migrations, an operator's connection."""
