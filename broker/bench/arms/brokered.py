"""A worker as an app has it: `worker_client` and a handle on the model. The only module here that is a client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from broker.bench.arms import Named
from broker.bench.load.loops import Caller, Stamps
from worker_client import connect
from worker_client.calls.timings import Timings
from worker_client.model import Model
from worker_client.wire.errors import BrokerError


@dataclass(frozen=True, slots=True)
class Brokered:
    """`predict` on one signature of a served model. `timeout` in seconds is each call's."""

    address: str
    model: str
    signature: str
    timeout: float | None = None

    name = "broker"
    label = "broker"

    def prepare(self) -> None:
        """Nothing: a worker imports nothing that is worth sharing."""

    @contextmanager
    def open(self) -> Iterator[BrokeredModel]:
        with connect(self.address, timeout=self.timeout, retries=0) as client:
            yield BrokeredModel(client.model(self.model, signature=self.signature))


class BrokeredModel:
    """The model as this worker sees it. Its broker must not be another one meanwhile, so nothing is run again."""

    about: Mapping[str, Any] = {}

    def __init__(self, model: Model) -> None:
        self._model = model
        signature = model.signature
        self._inputs = [spec.name for spec in signature.inputs]
        self._outputs = [spec.name for spec in signature.outputs]

    def prepared(self, inputs: Named) -> Any:
        return inputs[self._inputs[0]] if len(self._inputs) == 1 else dict(inputs)

    def named(self, answer: Any) -> Named:
        return answer if isinstance(answer, dict) else {self._outputs[0]: answer}

    def caller(self) -> Caller:
        looking = self._model.copy()
        last: list[Timings] = []

        def keep(timings: Timings) -> None:
            last[:] = [timings]

        def stamps() -> Stamps:
            if not last:
                raise BrokerError("an answer came without its stamps")
            t = last[0]
            moments = t.submitted_ns, t.taken_ns, t.started_ns, t.finished_ns, t.completed_ns, t.woken_ns
            return (*moments, t.batch_rows)

        looking.on_answer = keep
        return Caller(self._model.predict, looking.predict, stamps)
