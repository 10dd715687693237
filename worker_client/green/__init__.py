"""Waiting in a process that gevent or eventlet has patched: a call lets the other greenlets run meanwhile."""
