"""The broker as a process: its main thread, what its parent sees of it, signals, systemd, the fork server."""
