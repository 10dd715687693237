"""What a broker tells of itself: statistics, metrics, health, traces, put together from `counters` when somebody asks.

Nothing here decides anything but `liveness`, by which a parent judges its broker.
"""
