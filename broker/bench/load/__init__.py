"""The load: planned arrivals, the loops of a worker, the master that forks workers, and its handle (`worker_pool.py`).

`forks.py`, `linked_process.py` and `processor_use.py` know nothing of arms; `benchmarks` uses them as well.
"""
