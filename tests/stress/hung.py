"""The crew of a broker whose models may loop: light, heavy, with the interpreter's lock held, and in a graph.

The caller of the endless request gets an error that names the setting which ended it; all other calls are answered.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np

import worker_client
from broker.control_plane.query import ask
from tests.brokers import serving, wait_until
from tests.faults.endless.looping import HELD, NO_END
from tests.models import saved_models
from tests.stress.chaos import Deed
from tests.stress.crew import PATIENCE_S, Crew
from tests.stress.forms import MODELS
from tests.stress.verdicts import Fault

LIMIT_S = 1.0
_MODULE = "tests.faults.endless.looping"
_HUNG = {"a light run": ("light", NO_END), "a heavy run": ("heavy", NO_END), "the lock": ("light", HELD)}
_GRAPH = "loop"


class HungCrew(Crew):
    """As the usual one, with some more that may happen to it."""

    @property
    def deeds(self) -> list[Deed]:
        hung = [
            Deed(5, f"hung: {what}", 0, lambda _, model=model, value=value: self._hang(model, value))
            for what, (model, value) in _HUNG.items()
        ]
        return [*super().deeds, *hung, Deed(5, "hung: a graph", 0, self._hang_graph)]

    def _hang(self, model: str, value: float) -> None:
        """A function's run, which the process does not survive. The third within a minute has the model set aside."""
        self._leave_in_peace()
        with self._board.broker_ends.counted():
            pid = self._serving_pid()
            if self._told(model, value) == "given up":
                self._broker.next_pid(pid)
            else:
                ask(self._broker.address, "reload", PATIENCE_S, models=[model])

    def _hang_graph(self, _: Random) -> None:
        """The run is cancelled, and the model loaded again in the same process."""
        self._leave_in_peace()
        pid = self._serving_pid()
        if self._told(_GRAPH, NO_END) != "given up" or self._serving_pid() != pid:
            raise Fault("the broker's process has not survived a loop in a graph")

    def _leave_in_peace(self) -> None:
        """A broker that is just being started has another end than the one that is meant."""
        wait_until(self.broker_answers, "a broker that serves", PATIENCE_S)

    def _told(self, model: str, value: float) -> str:
        with worker_client.connect(self._broker.address, timeout=PATIENCE_S, retries=0) as client:
            try:
                answer = client.model(model).predict(np.full((1, 4), value, np.float32))
            except worker_client.ModelFailed as error:
                if "max_run_seconds" in str(error):
                    return "given up"
                if "3 times within" in str(error):
                    return "set aside"
                raise Fault(f"a run without an end was told {error}") from error
        raise Fault(f"a run without an end has got the answer {answer}")


@contextlib.contextmanager
def hung_crew(workers: int, seed: str) -> Iterator[HungCrew]:
    """Workers and their broker, who are gone after the block."""
    with tempfile.TemporaryDirectory() as place:
        saved_models.export({_GRAPH: Path(place) / _GRAPH})
        sources = {
            _GRAPH: os.fspath(Path(place) / _GRAPH),
            "light": f"{_MODULE}:light",
            "heavy": f"{_MODULE}:heavy",
        }
        models = {name: {"source": source, "max_run_seconds": LIMIT_S} for name, source in sources.items()}
        with serving(*MODELS, models=models, supervise=True, slots=4, max_slots=16) as broker:
            made = HungCrew(broker, workers, seed)
            try:
                yield made
            finally:
                made.close()
