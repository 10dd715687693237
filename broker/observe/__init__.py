"""What a broker tells of itself: counters, statistics, metrics, health, traces, logs. Nothing here decides anything."""
