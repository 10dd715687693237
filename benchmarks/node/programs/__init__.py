"""What an engine runs in one arm, each a process: `python -m benchmarks.node.programs.ENGINE ARM MODEL ...`. The last
line that it prints is JSON."""
