"""What the server keeps of people: how long, and how one of them gets out of it, or gets to see it."""
