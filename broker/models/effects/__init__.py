"""What a run of a signature does besides computing, found by the ops that it reaches; what sessions may run of it."""
