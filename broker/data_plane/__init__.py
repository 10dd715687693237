"""The path of a request through the broker. Read in this order:

intake, channel        rings are scanned, slots taken
slot, region           check the header, map the worker's memory as arrays
prepared               the checked request of a slot, prepared once per shape
served_signature       the signature, its policy and its counters; evidence: checks its joined runs
split, gather, strings split requests larger than a batch, join and separate rows, read strings
runner, runner_pool    run a batch, on the intake thread or on a heavy model's own threads
concurrent_runs,       which runs are under way at the same time; a record of runs while a trace is on
tracer
"""
