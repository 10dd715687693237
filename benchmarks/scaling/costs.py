"""What one request costs at each stage, in microseconds of processor time unless it says otherwise. Pure.

worker   (sleeps until woken)  worker_us: copy out, the app, check, copy in, submit  (wakes the broker)
                               crowd_us, where others ran on its core meanwhile: all of its processor time, with the
                               change of who runs and what it must fetch into the caches again
intake   (sleeps until woken)  one scan takes n requests:  batch_us + n * request_us, one alone  single_us
model                          run_fixed_us + rows of all n * run_row_us
                               (wakes the workers)  they have their answers: nobody waits for the rest
intake                         after_us + n * after_request_us
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Waking:
    """What it costs that one process sleeps until another posts its semaphore.

    `wake_us` is the poster's, `sleep_us` the sleeper's, where the sleeper gets a core that was idle; `latency_us` no
    processor's: from the post until it runs there. `busy_wake_us` and `busy_sleep_us` are the same where all cores have
    work and the sleeper waits for its turn, which costs no interrupt. `poll_us` is the hand-over to one that polls.
    `give_way_us` is what a thread pays that gives way to another one on its core.
    """

    wake_us: float
    sleep_us: float
    busy_wake_us: float
    busy_sleep_us: float
    latency_us: float
    poll_us: float
    give_way_us: float


@dataclass(frozen=True)
class Costs:
    """Of requests of `rows` rows each to one light model."""

    rows: int
    worker_us: float
    crowd_us: float
    single_us: float
    batch_us: float
    request_us: float
    run_fixed_us: float
    run_row_us: float
    after_us: float
    after_request_us: float
    waking: Waking
    max_batch_rows: int = 64

    @property
    def most(self) -> int:
        """Requests that fit into one batch."""
        return max(1, self.max_batch_rows // self.rows)

    def run_us(self, requests: int) -> float:
        return self.run_fixed_us + self.run_row_us * requests * self.rows

    def answering_us(self, requests: int) -> float:
        """The intake's part until the last of so many is answered."""
        return self.single_us if requests == 1 else self.batch_us + self.request_us * requests

    def afterwards_us(self, requests: int) -> float:
        """Its part from then on: counting, and taking back the doorbell's posts."""
        return self.after_us + self.after_request_us * requests

    def broker_us(self, requests: int) -> float:
        """The broker's thread, for one batch of so many requests whose workers poll."""
        return self.answering_us(requests) + self.run_us(requests) + self.afterwards_us(requests)

    def serve_us(self, requests: int) -> float:
        """For so many requests that wait at once: as many full batches as they need, and what is left."""
        full, left = divmod(requests, self.most)
        return full * self.broker_us(self.most) + (self.broker_us(left) if left else 0.0)

    def woken(self) -> Costs:
        """The same where every worker sleeps, and is woken on an idle core: the broker pays its posts, the worker its
        sleep."""
        wake = self.waking.wake_us
        return replace(
            self,
            worker_us=self.worker_us + self.waking.sleep_us,
            single_us=self.single_us + wake,
            request_us=self.request_us + wake,
        )

    def giving_way(self) -> Costs:
        """The same where all wait by giving way: each pays for a change of who runs, and so does the broker."""
        change = self.waking.give_way_us
        return replace(self, worker_us=self.crowd_us, after_us=self.after_us + change)

    def with_model(self, fixed_us: float, row_us: float) -> Costs:
        """The same broker in front of another light model."""
        return replace(self, run_fixed_us=fixed_us, run_row_us=row_us)

    def with_app(self, app_us: float) -> Costs:
        """The same worker that does something else between two calls."""
        return replace(self, worker_us=self.worker_us + app_us, crowd_us=self.crowd_us + app_us)


@dataclass(frozen=True)
class Machine:
    """`speeds[k - 1]`: what k cores at work do together, in units of one that works alone. Threads of one physical core
    share it, so that two of them do less than two."""

    cores: int
    speeds: tuple[float, ...] = field(default=())

    @classmethod
    def ideal(cls, cores: int) -> Machine:
        """Every core as fast as one of them alone."""
        return cls(cores, tuple(float(k) for k in range(1, cores + 1)))

    def speed(self, running: int) -> float:
        """Of `running` threads together, which is at least 1."""
        return self.speeds[min(running, self.cores) - 1]

    @property
    def full(self) -> float:
        return self.speeds[-1]
