"""The commands of `python -m benchmarks`, a file each. Where a command has one target only, that is in its file."""
