"""Models of every kind called in every way, and every answer compared: `python -m tests.differential` (make fuzz).

__main__.py    the command
kinds/         kinds of models: the SavedModel, its requests, the right answers; export.py has them written
ways/          ways to call them
plan.py        what each caller does, from the seed; scripts of it
caller.py      one thread of a worker, which compares; worker.py its process; ledger.py what all have done
stage.py       the broker and its workers, for the deeds of tests/stress; log.py what must not be logged
run.py         rounds for as long as asked; report.py what is said of a failure; shrink.py the shortest script of it
stall.py       how long a process did not get to run
faults/        put back into the product, to show that a run finds them
"""
