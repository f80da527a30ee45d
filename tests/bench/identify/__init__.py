"""Finding out who is calling: how fast, among how many, and beside neighbours that fail."""
