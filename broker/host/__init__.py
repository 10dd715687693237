"""The machine and its processes, as /proc and control groups describe them: processors, memory, quotas, use."""
