"""What the team already knows: reading files, cutting them into chunks, indexing them."""
