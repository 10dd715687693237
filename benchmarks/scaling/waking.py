"""What it costs that one process sleeps until another posts its semaphore, and what cores do together."""

from __future__ import annotations

import mmap
import os
from statistics import median
from time import monotonic_ns, thread_time_ns

import numpy as np
import posix_ipc

from benchmarks.harness.affinity import CALLER, OTHER, pin
from benchmarks.harness.lifetime import fork, forked
from benchmarks.scaling.costs import Machine, Waking
from worker_client.system.processor import give_way

WARM_UP = 20
SPEED_PASSES = 9
LEAD_NS = 60_000_000
"""For every process to be there."""
_END = (1 << 63) - 1


def measure(times: int) -> Waking:
    """Two processes that wake each other in turns, on two cores and on one; and two that poll."""
    before = os.sched_getaffinity(0)
    pin(CALLER)
    try:
        wake_us, sleep_us, latency_us = _in_turns(times, OTHER)
        busy_wake_us, busy_sleep_us, _ = _in_turns(times, CALLER)
        polling = _hand_over_polling(times), _give_way(times)
        return Waking(wake_us, sleep_us, busy_wake_us, busy_sleep_us, latency_us, *polling)
    finally:
        os.sched_setaffinity(0, before)


def _in_turns(times: int, core: int) -> tuple[float, float, float]:
    """What a post costs the one who posts, what sleeping costs the other, in microseconds of processor time; and the
    time from a post until the other runs. Both sleep each time, since neither posts before it has been woken."""
    ping, pong = _semaphore("ping"), _semaphore("pong")
    words = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
    posts, latencies = [], []
    with forked(_sleeper, ping, pong, words, core):
        for number in range(times + WARM_UP):
            if number == WARM_UP:
                used_ns = thread_time_ns()
            began, post = monotonic_ns(), thread_time_ns()
            ping.release()
            posts.append(thread_time_ns() - post)
            pong.acquire()
            latencies.append(words[0] - began)
        round_us = (thread_time_ns() - used_ns) / times / 1e3
    clock_us, alone_us = _clock_us(times), _post_to_nobody(pong, times)
    ping.close()
    pong.close()
    post_us = median(posts) / 1e3 - clock_us
    wake_us = max(0.0, post_us - alone_us)
    sleep_us = max(0.0, round_us - post_us - 3 * clock_us)
    return wake_us, sleep_us, median(latencies) / 1e3


def _sleeper(ping: posix_ipc.Semaphore, pong: posix_ipc.Semaphore, words: memoryview, core: int) -> None:
    pin(core)
    while True:
        ping.acquire()
        words[0] = monotonic_ns()
        pong.release()


def _clock_us(times: int) -> float:
    """What reading the clock of this thread's processor time takes."""
    began = monotonic_ns()
    for _ in range(times):
        thread_time_ns()
    return (monotonic_ns() - began) / times / 1e3


def _post_to_nobody(semaphore: posix_ipc.Semaphore, times: int) -> float:
    began = monotonic_ns()
    for _ in range(times):
        semaphore.release()
    return (monotonic_ns() - began) / times / 1e3


def _hand_over_polling(times: int) -> float:
    """Half a round trip through two words, microseconds."""
    words = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
    with forked(_echo_words, words):
        for number in range(1, times + WARM_UP + 1):
            if number == WARM_UP + 1:
                began = monotonic_ns()
            words[0] = number
            while words[8] != number:
                pass
        taken = monotonic_ns() - began
        words[0] = _END
    return taken / times / 2 / 1e3


def _give_way(times: int) -> float:
    """Of two processes on one core that do nothing but give way to each other, for one time, microseconds."""
    with forked(_give_way_for_ever):
        for number in range(times + WARM_UP):
            if number == WARM_UP:
                began = monotonic_ns()
            give_way()
        return (monotonic_ns() - began) / times / 2 / 1e3


def _give_way_for_ever() -> None:
    pin(CALLER)
    while True:
        give_way()


def _echo_words(words: memoryview) -> None:
    pin(OTHER)
    while (number := words[0]) != _END:
        words[8] = number


def speeds(seconds: float, cores: int) -> Machine:
    """How much k processes do together beside one alone: Python and small arrays, as broker and workers are. Several
    times in turns, of which the median counts; between powers of two on the straight line."""
    counts = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
    numbers = sorted({*(1 << power for power in range(cores.bit_length())), cores})
    passes = [[_together(k, counts, seconds) for k in numbers] for _ in range(SPEED_PASSES)]
    found = [median(one[place] / one[0] for one in passes) for place in range(len(numbers))]
    return Machine(cores, tuple(np.interp(range(1, cores + 1), numbers, found).tolist()))


def _together(k: int, counts: memoryview, seconds: float) -> float:
    """Rounds of work a second, of k processes."""
    start = monotonic_ns() + LEAD_NS
    for pid in [fork(_work, counts, number, start, seconds) for number in range(k)]:
        os.waitpid(pid, 0)
    return sum(counts[:k]) / seconds


def _work(counts: memoryview, number: int, start_ns: int, seconds: float) -> None:
    end_ns, rounds = start_ns + int(seconds * 1e9), 0
    here, there = np.ones((1, 128), np.float32), np.empty((1, 128), np.float32)
    words = memoryview(bytearray(64)).cast("Q")
    while monotonic_ns() < start_ns:
        pass
    while monotonic_ns() < end_ns:
        for _ in range(20):
            there[...] = here
            words[1] = words[0] + 1
        rounds += 1
    counts[number] = rounds


def _semaphore(name: str) -> posix_ipc.Semaphore:
    """Without a name from the start: the child inherits it."""
    made = posix_ipc.Semaphore(f"/onesession.scaling.{os.getpid()}.{name}", posix_ipc.O_CREX, mode=0o600)
    made.unlink()
    return made
