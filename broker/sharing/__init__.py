"""What workers get: shared memory within a budget, and access to semaphores that they open by name."""
