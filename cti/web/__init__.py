"""The HTTP side of the server: API, event stream, metrics and health. What they show is made elsewhere."""
