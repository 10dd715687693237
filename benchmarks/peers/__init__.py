"""`python -m benchmarks peers`: the same model through every other way to serve it, each beside the broker.

command, bench      what is measured, how long, against what
other_system        a peer: what it needs, and its arms
catalogue           all peers
local               the peers that run in this environment
servers/            the peers with a server, a file each: how it is installed, started and called
environment         a peer's own environment: made, cached, or why not
server_arm, server  a peer's server and its callers, as an arm of the harness; the server's process
place, http_client  what server and callers share
turns               arms in turn, each alone on the machine
summary             one table of all
"""
