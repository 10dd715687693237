"""What a broker reports about itself: statistics, metrics, health, traces, computed from `counters` on request.

Only `liveness` decides anything: a parent judges its broker by it.
"""
