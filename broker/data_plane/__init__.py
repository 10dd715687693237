"""A request on its way through the broker. Read in this order:

intake, channel        rings are scanned, slots taken
slot, region           the header is checked, the worker's memory seen as arrays
prepared               what a slot is asked to run, checked once per shape
served_signature       the signature, its policy and its counters; evidence: what service shows of its rows
split, gather, strings cut what is larger than a batch, join rows and cut them apart, read strings
runner, runner_pool    run a batch, on the intake thread or on a heavy model's own
concurrent_runs,       which runs are under way at the same time; what ran, while somebody traces
tracer
"""
