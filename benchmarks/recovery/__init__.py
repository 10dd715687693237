"""T11: a broker killed under load; how soon each waiting call knows, and when it is answered by the next broker."""
