"""`python -m benchmarks peers`: the same model through every other way to serve it, each beside the broker.

command, bench      what is measured, how long, against what
peer, catalogue     a peer; all of them
local               those that run in this environment
servers/            those with a server, one a file: how it is installed, started and called
environment         a peer's own environment: made, cached, or why not
served, server      a peer's server and its callers, as an arm of the harness
place, http_client  what server and callers share
turns               arms in turns, each alone on the machine
summary             one table of all
"""
