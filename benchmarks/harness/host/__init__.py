"""The machine during a run: processors, other programs, load that belongs to the comparison."""
