"""How good a search is, and where its threshold belongs."""
