"""Mean value analysis of closed networks: throughput of N customers who go round a few stations. Pure.

Reiser and Lavenberg, "Mean-value analysis of closed multichain queueing networks", Journal of the ACM 27, 1980: what a
customer finds on arrival at a station is what is there on average with one customer less (the arrival theorem), so the
network for N follows from that for N - 1. A station whose speed depends on how many are there (several servers, or
requests that are served together) keeps the distribution of that number, by the recursion of the same paper.

It is exact for exponential service times, or any at stations that share their speed among all who are there. Ours
are not quite that: a batch takes no newcomers. `simulation.py` has no such idealisation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.scaling.costs import Costs

Rate = Callable[[int], float]
"""Customers served a microsecond when so many are there."""


@dataclass(frozen=True)
class Solution:
    """For 1 to N customers: throughput in customers a microsecond, and the mean time of one round in microseconds."""

    throughput: tuple[float, ...]
    round_us: tuple[float, ...]


def solve(rates: Sequence[Rate], customers: int) -> Solution:
    """`rates` are those of the stations, of which every customer visits each once a round."""
    found = [[1.0] for _ in rates]  # the distribution of the number at each station; with nobody in, it is 0
    throughput, rounds = [], []
    for total in range(1, customers + 1):
        times = [
            sum(number / rate(number) * shares[number - 1] for number in range(1, total + 1))
            for rate, shares in zip(rates, found)
        ]
        per_us = total / sum(times)
        found = [_shares(per_us, rate, shares, total) for rate, shares in zip(rates, found)]
        throughput.append(per_us)
        rounds.append(sum(times))
    return Solution(tuple(throughput), tuple(rounds))


def _shares(per_us: float, rate: Rate, before: Sequence[float], total: int) -> list[float]:
    """How likely 0 to `total` are there. Rounding must not make the first negative."""
    there = [per_us / rate(number) * before[number - 1] for number in range(1, total + 1)]
    return [max(0.0, 1.0 - sum(there)), *there]


def servers(number: int, us: float) -> Rate:
    """So many servers with one queue, each of which takes `us` for a customer."""
    return lambda there: min(there, number) / us


def delay(us: float) -> Rate:
    """A server for everybody."""
    return lambda there: there / us


def batches(costs: Costs) -> Rate:
    """The broker's thread: whoever waits is served in as few batches as there can be."""
    return lambda there: there / costs.serve_us(there)


def broker_throughput(costs: Costs, workers: int, cores_for_workers: int) -> float:
    """Requests a second of a broker with a core to itself, whose workers share the others."""
    solution = solve([servers(cores_for_workers, costs.worker_us), batches(costs)], workers)
    return solution.throughput[-1] * 1e6


def saturated(costs: Costs) -> float:
    """Requests a second that the broker's thread cannot exceed, however many workers ask."""
    return costs.most / costs.broker_us(costs.most) * 1e6


def knee(costs: Costs) -> float:
    """Workers from which on the broker's thread is what limits: where the two asymptotes of the throughput meet, that
    of workers who never wait for each other and that of a thread that never rests (Denning and Buzen, "The operational
    analysis of queueing network models", ACM Computing Surveys 10, 1978)."""
    return (costs.worker_us + costs.broker_us(1)) * saturated(costs) / 1e6
