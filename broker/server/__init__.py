"""Assembles and runs a broker: all its parts, the watch of runs, the lifeline, and the end when nobody uses it."""
