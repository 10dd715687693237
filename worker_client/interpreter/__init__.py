"""What Python provides, and where it needs care: forks without hooks, patched threading, locks and signal handlers."""
