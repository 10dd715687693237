"""A broker put together and kept at work: all its parts, the watchdog, the lifeline, the end when nobody uses it."""
