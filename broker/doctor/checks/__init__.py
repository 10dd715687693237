"""One subject a file: functions that judge what was read, and a `check` that reads it."""
