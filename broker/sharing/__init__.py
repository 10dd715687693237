"""What workers are given: shared memory within a budget, and access to what they open by name."""
