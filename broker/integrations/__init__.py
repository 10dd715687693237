"""What servers need to know of the broker: one module a server."""
