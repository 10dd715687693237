"""The load: one process with several connections, a closed loop in each. Every answer is parsed and given out.

A request's time is from its connect() to the last byte of its answer. Under load most of it is spent in the queue of
the listening socket, as it is with any other load generator.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterator
from time import monotonic_ns

import numpy as np

from benchmarks.harness.timed import Answers
from benchmarks.http.exchange import Address, Answer, BadAnswer, is_whole, parse, request

PATIENCE_S = 30.0


class _Exchange:
    """One request on its way. The server closes first, so that its side keeps the connection's remains."""

    __slots__ = ("began_ns", "ended_ns", "index", "raw", "socket")

    def __init__(self, address: Address, index: int, body: bytes) -> None:
        self.index = index
        self.raw = b""
        self.ended_ns = 0
        self.began_ns = monotonic_ns()
        self.socket = socket.create_connection(address, PATIENCE_S)
        try:
            self.socket.sendall(body)
            self.socket.setblocking(False)
        except BaseException:
            self.socket.close()
            raise

    def read(self) -> bool:
        """Take what has come; True at the end."""
        part = self.socket.recv(65536)
        self.raw += part
        if not self.ended_ns and (not part or is_whole(self.raw)):
            self.ended_ns = monotonic_ns()
        return not part


def answers(address: Address, inputs: list[np.ndarray], connections: int) -> Answers:
    """Submit the inputs in turn, without end, `connections` at a time. Raises BadAnswer."""
    for exchange, answer in exchanges(address, inputs, connections):
        yield exchange.index, exchange.began_ns, exchange.ended_ns, answer.y


def exchanges(
    address: Address, inputs: list[np.ndarray], connections: int
) -> Iterator[tuple[_Exchange, Answer]]:
    bodies = [request(x) for x in inputs]
    under_way: dict[int, _Exchange] = {}
    submitted = 0
    with select.epoll() as poll, contextlib.ExitStack() as stack:
        stack.callback(lambda: [exchange.socket.close() for exchange in under_way.values()])
        while True:
            while len(under_way) < connections:
                index = submitted % len(bodies)
                exchange = _Exchange(address, index, bodies[index])
                under_way[exchange.socket.fileno()] = exchange
                poll.register(exchange.socket, select.EPOLLIN)
                submitted += 1
            ready = poll.poll(PATIENCE_S)
            if not ready:
                raise BadAnswer(f"no answer for {PATIENCE_S:g} s")
            for fd, _ in ready:
                if under_way[fd].read():
                    exchange = under_way.pop(fd)
                    exchange.socket.close()  # which takes it out of the poll as well
                    yield exchange, parse(exchange.raw)
