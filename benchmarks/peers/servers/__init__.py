"""The peers with a server, one a file: how it is installed, `serve`, and how a worker calls it.

`serve(place)` runs in a process of its own until that gets SIGTERM. The functions that a `Way` names in "connect" run
in a worker, and give a function of one request: float32 [1, ...] -> float32 [1, ...]. `preload()` imports before the
fork what the workers need, as gunicorn does with `--preload`: they then have it in memory once.
"""
