"""The ways to get an answer, measured in one worker: its latency."""
