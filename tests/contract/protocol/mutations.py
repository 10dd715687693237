"""The protocol with one mistake in it. A checker that finds none of these would prove nothing.

Those marked "as it was" stood in the code until this model found them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.contract.protocol import mistakes_broker as broker
from tests.contract.protocol import mistakes_worker as worker
from tests.contract.protocol.fields import Config
from tests.contract.protocol.model import Model
from tests.contract.protocol.threads.program import Thread


@dataclass(frozen=True)
class Mutation:
    """`fault` is a part of what the checker must say."""

    name: str
    fault: str
    config: Config
    threads: dict[str, type[Thread]] = field(default_factory=dict)

    def model(self) -> Model:
        threads: Any = self.threads
        return Model(self.config, **threads)


_FOREVER = "waits for ever"
_ONE = Config(requests=1)
_TWO = Config(requests=2)
_DEADLINES = Config(requests=2, deadlines=True)
_STOPPED = Config(requests=1, deadlines=True, stops=1)
_INTERRUPTED = Config(requests=2, interruptions=1)
_FUTURES = Config(requests=2, futures=True)

MUTATIONS = (
    Mutation("the doorbell before the tail", _FOREVER, _ONE, {"caller": worker.RingsBeforeTail}),
    Mutation(
        "the tail before the entry", "'store the tail' while", _ONE, {"caller": worker.ShowsBeforeEntry}
    ),
    Mutation(
        "submitted before the tail", "'take: acquire submitted", _ONE, {"caller": worker.PostsBeforeTail}
    ),
    Mutation("the request line after the push", "'write inputs or", _ONE, {"caller": worker.WritesAfterPush}),
    Mutation(
        "as it was: two posts for a push broken off",
        "'take: acq",
        _INTERRUPTED,
        {"caller": worker.PostsTwiceWhenBrokenOff},
    ),
    Mutation(
        "as it was: no ring for a push broken off",
        _FOREVER,
        Config(slots=1, requests=2, interruptions=1),
        {"caller": worker.NeverRingsAgain},
    ),
    Mutation(
        "a handler between two stores",
        "is lost",
        Config(requests=1, interruptions=1),
        {"caller": worker.BrokenOffBetweenStores},
    ),
    Mutation("DONE for the answer", "'read the answer' while", _ONE, {"caller": worker.BelievesDone}),
    Mutation(
        "as it was: the second post for the answer",
        "'read the answer'",
        _DEADLINES,
        {"caller": worker.BelievesTheSecondPost},
    ),
    Mutation(
        "as it was: no deadline once DONE is seen",
        _FOREVER,
        _STOPPED,
        {"caller": worker.WatchesOnlyBeforeDone},
    ),
    Mutation("free when the caller leaves", "'release' while", _DEADLINES, {"caller": worker.FreesAtOnce}),
    Mutation("reaped on DONE", "'release' while", _DEADLINES, {"caller": worker.ReapsOnDone}),
    Mutation(
        "as it was: the broker's post counted first",
        "'release' while",
        Config(requests=2, deadlines=True, interruptions=1),
        {"caller": worker.CountsTheBrokersFirst},
    ),
    Mutation(
        "an extra post before it is counted",
        "'read the answer'",
        _STOPPED,
        {"watcher": worker.PostsBeforeItCounts},
    ),
    Mutation(
        "a channel closed in silence",
        _FOREVER,
        Config(requests=1, broker_kills=1),
        {"watcher": worker.ClosesInSilence},
    ),
    Mutation(
        "as it was: a future late before it is submitted",
        _FOREVER,
        Config(slots=1, requests=1, futures=True, deadlines=True, stops=1),
        {"caller": worker.NeverRingsLate},
    ),
    Mutation(
        "a future looked at before it is submitted",
        "'",
        Config(slots=1, requests=2, futures=True, deadlines=True),
        {"dispatcher": worker.LooksAtUnsubmitted},
    ),
    Mutation(
        "as it was: a late post taken for a future's answer",
        "'read the answer'",
        Config(slots=1, requests=2, futures=True, mixed=True, deadlines=True),
        {"dispatcher": worker.KnowsNoExtraPosts},
    ),
    Mutation(
        "as it was: a future settled without the lock",
        "'",
        Config(requests=2, futures=True, interruptions=1),
        {"dispatcher": worker.SettlesWithoutLock},
    ),
    Mutation(
        "a failed acquire for a barrier", "'take: acquire submitted", _ONE, {"intake": broker.NeedsNoAcquire}
    ),
    Mutation("the doorbell drained after the last look", _FOREVER, _ONE, {"intake": broker.DrainsAndBlocks}),
    Mutation(
        "posts taken back without another look",
        _FOREVER,
        Config(requests=2, futures=True),
        {"intake": broker.TakesBackAndBlocks},
    ),
    Mutation(
        "a post that never comes, hoped for",
        "never comes to rest",
        Config(requests=1, worker_stops=1),
        {"intake": broker.HopesForEver},
    ),
    Mutation(
        "a channel disposed of while it is busy",
        "was disposed of",
        Config(requests=1, worker_kills=1, heavy=True),
        {"intake": broker.DisposesOfBusy},
    ),
    Mutation("DONE before the outputs", "'write outputs or", _ONE, {"intake": broker.DoneBeforeOutputs}),
    Mutation("completed before DONE", "'post completed' while", _ONE, {"intake": broker.PostsBeforeDone}),
    Mutation("completed before the outputs", "'", _ONE, {"intake": broker.PostsBeforeOutputs}),
    Mutation("the bell before completed", _FOREVER, _FUTURES, {"intake": broker.RingsBeforeItPosts}),
    Mutation(
        "let go after the post",
        "came twice",
        Config(requests=2, slots=1, heavy=True),
        {"runner": broker.LetsGoLast},
    ),
    Mutation(
        "as it was: a request given up after it was handed back",
        "'",
        Config(requests=2, slots=1, heavy=True, raises=1),
        {"runner": broker.GivesUpWhatIsBusy},
    ),
    Mutation(
        "an orphan's run not told of",
        "stays",
        Config(requests=1, worker_kills=1, heavy=True),
        {"runner": broker.ForgetsOrphans},
    ),
    Mutation(
        "a call that does not ring",
        "stays",
        Config(requests=1, worker_kills=1),
        {"control": broker.CallsInSilence},
    ),
)
