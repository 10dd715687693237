"""One process with an event loop and many awaits, beside many processes that each wait for one call."""
