"""A broker, its workers and what is done to them: a scene for `tests.stress.chaos`, of the crew of `tests.stress`."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from broker.control_plane.query import ask
from tests.brokers import TestBroker, serving
from tests.differential import faults, kinds
from tests.differential.draw import Draw
from tests.differential.export import export
from tests.differential.kinds.kind import tag_of
from tests.differential.kinds.state import Versioned
from tests.differential.log import check_log, redirected
from tests.differential.worker import Task, work
from tests.stress.body import TIMEOUT_S
from tests.stress.chaos import Deed
from tests.stress.crew import Crew, Job
from tests.stress.verdicts import Fault
from worker_client import BrokerUnavailable, Client

_OFTEN = {
    "worker killed": 40,
    "worker suspended": 20,
    "worker killed while suspended": 8,
    "broker suspended": 14,
    "broker killed": 1,
    "broker killed twice": 0,
    "broker stopped": 1,
    "directory cleaned": 0,
}
"""Deeds that come in other proportions than in `tests.stress`: a broker with TensorFlow takes seconds to come back."""
QUIET_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Options:
    """How a scene is set up."""

    workers: int = 6
    fault: str | None = None
    kinds: tuple[str, ...] = ()
    ways: tuple[str, ...] = ()
    deeds: bool = True
    green: bool = True

    @property
    def timeout(self) -> float:
        """The timeout of patient calls: longer than a broker takes to come back, if one is killed."""
        return TIMEOUT_S if self.deeds else QUIET_TIMEOUT_S


class Stage:
    """Workers of a supervised broker that serves every kind of model."""

    def __init__(self, crew: Crew, task: Task, broker: TestBroker, log: Path) -> None:
        self._crew = crew
        self._task = task
        self._broker = broker
        self._log = log
        self.task = task

    @property
    def deeds(self) -> list[Deed]:
        """What may be done to them."""
        deeds = [
            deed._replace(weight=_OFTEN[deed.name], do=self._if_served(deed)) for deed in self._crew.deeds
        ]
        return [*(deed for deed in deeds if deed.weight), Deed(12, "reloaded", 0, self._reload)]

    def _if_served(self, deed: Deed) -> Callable[[Random], None]:
        """Do not touch a broker that still loads, because most of a run would be spent on loading."""

        def do(random: Random) -> None:
            if "broker" not in deed.name or self._crew.broker_answers():
                deed.do(random)

        return do

    def _reload(self, random: Random) -> None:
        """To the other version, or to the one that is served."""
        with contextlib.suppress(BrokerUnavailable):  # it has just been killed
            ask(
                self._broker.address,
                "reload",
                60,
                models=["versioned"],
                versions=random.choice(Versioned.versions),
            )

    @property
    def calls(self) -> int:
        return self._task.ledger.total

    @property
    def answers(self) -> Counter[str]:
        """By kind."""
        return self._task.ledger.answers

    @property
    def ends(self) -> Counter[str]:
        """Of the operations that were not simply answered, of those who lived to tell."""
        return self._crew.ends

    def check(self) -> None:
        """Raises Fault for what has gone wrong so far."""
        self._crew.check()
        check_log(self._log)

    def stop(self) -> None:
        """Have all of them end; see that nothing is left, and that the counter gave each number once."""
        self._crew.stop()
        wrong = self._task.ledger.wrong_counts(self._crew.broker_ends > 0)
        if wrong:
            raise Fault(wrong)
        faults_met = {kind: times for kind, times in self._broker.status()["faults"].items() if times}
        if faults_met:
            raise Fault(f"the broker has counted {faults_met}")
        check_log(self._log)

    def failure(self) -> dict[str, Any] | None:
        """What the first worker that has failed says of it."""
        found = sorted(self._task.records.glob("failure-*"), key=os.path.getmtime)
        return json.loads(found[0].read_text()) if found else None


def probe(client: Client) -> None:
    """One good call, at the end."""
    rows = kinds.KINDS["rows"]
    inputs = rows.make(Draw(1), tag_of(31, 1))
    wrong = rows.check(inputs, client.model("plain", signature="rows").predict(inputs))
    assert not wrong, wrong


@contextlib.contextmanager
def broker_of(models: Path, fault: str | None, log: Path) -> Iterator[TestBroker]:
    """A supervised broker of every kind, whose stderr is the file `log`."""
    with contextlib.ExitStack() as stack:
        with redirected(log), faults.in_brokers(fault):
            broker = stack.enter_context(
                serving(models=kinds.served(models), supervise=True, slots=4, max_slots=16)
            )
        yield broker


def green_places(options: Options) -> frozenset[int]:
    """The last worker is gevent's, where it is installed."""
    there = options.green and options.workers > 1 and importlib.util.find_spec("gevent") is not None
    return frozenset({options.workers - 1} if there else ())


@contextlib.contextmanager
def stage(models: Path, records: Path, seed: str, options: Options) -> Iterator[Stage]:
    """Gone after the block. `records` is an empty folder for what comes of it."""
    task = Task(
        models,
        records,
        timeout=options.timeout,
        kinds=options.kinds,
        ways=options.ways,
        fault=options.fault,
        green=green_places(options),
    )
    log = records / "broker.log"
    with broker_of(models, options.fault, log) as broker:
        crew = Crew(broker, options.workers, seed, Job(functools.partial(work, task), probe))
        try:
            yield Stage(crew, task, broker, log)
        finally:
            crew.close()


@contextlib.contextmanager
def stress_stage(workers: int, seed: str) -> Iterator[Stage]:
    """For `tests.stress`, which kills far more often."""
    with tempfile.TemporaryDirectory(prefix="onesession-differential-") as place:
        models, records = Path(place, "models"), Path(place, "records")
        models.mkdir()
        records.mkdir()
        export(models)
        with stage(models, records, seed, Options(workers)) as made:
            yield made
