"""The load: planned arrivals, the loops of a worker, the master that forks workers, and its handle."""
