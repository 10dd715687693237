"""One subject per file: functions that judge measured values, and a `check` that measures them."""
