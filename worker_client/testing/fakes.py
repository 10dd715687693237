"""Canned answers in place of models: needs neither TensorFlow nor the broker package, and records what was asked."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from worker_client.attachment.metadata import AVAILABLE
from worker_client.calls.inputs import casts
from worker_client.system.clock import monotonic_ns
from worker_client.wire.dtypes import STRING, dtype_named
from worker_client.wire.errors import BrokerError, DeadlineExceeded, InvalidInput, ModelFailed
from worker_client.wire.signature import Signature, TensorSpec
from worker_client.wire.strings import StringView

_KEYS = ("inputs", "outputs", "answer", "delay", "version", "signature")
_EXAMPLE = '{"digits": {"inputs": {"x": ("float32", [None, 64])}, "outputs": {...}, "answer": ...}}'


class Call(NamedTuple):
    """One request that a fake has answered. `inputs` are copies, defaults and casts included."""

    model: str
    signature: str
    inputs: dict[str, np.ndarray]


class FakeModel:
    """One model with canned answers. Raises InvalidInput for a description that cannot be."""

    def __init__(self, name: str, described: Any) -> None:
        if not isinstance(described, Mapping) or not {"inputs", "outputs", "answer"} <= set(described) <= set(
            _KEYS
        ):
            raise InvalidInput(
                f"a fake's model {name!r} must be a dict of {', '.join(_KEYS)}, such as {_EXAMPLE}"
            )
        self.name = name
        self.version = int(described.get("version", 1))
        self.delay = float(described.get("delay", 0.0))
        sides = [_specs(name, side, described[side]) for side in ("inputs", "outputs")]
        self.signature = Signature(str(described.get("signature", "serving_default")), *sides)
        self._answers = _in_turn(described["answer"])
        for answer in self._answers:
            if not (callable(answer) or isinstance(answer, BaseException)):
                self._outputs(answer)  # said now, and not in the middle of a test

    def message(self, number: int) -> dict[str, Any]:
        """As a broker reports it."""
        fields = {**self.signature.to_message(), "id": number, "stateful": "", "max_run_seconds": 0.0}
        found = {"version": self.version, "default_signature": self.signature.name, "signatures": [fields]}
        return {
            **found,
            "versions": [{**found, "state": AVAILABLE, "cause": ""}],
            "labels": {},
            "timeout": None,
        }

    def answer(self, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The next answer. Raises what is canned."""
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if _is_error(answer):
            raise answer("as the fake was told") if isinstance(answer, type) else answer
        try:
            outputs = self._outputs(answer(*feeds) if callable(answer) else answer)
        except InvalidInput as error:
            raise ModelFailed(str(error)) from None
        if not self.signature.batchable:
            return outputs
        rows = len(feeds[0])
        return [self._for_rows(spec, output, rows) for spec, output in zip(self.signature.outputs, outputs)]

    def _outputs(self, answer: Any) -> list[np.ndarray]:
        """In the signature's order. Raises InvalidInput."""
        specs = self.signature.outputs
        if isinstance(answer, Mapping):
            if set(answer) != {spec.name for spec in specs}:
                raise self._wrong(
                    f"has the outputs {sorted(map(str, answer))}, not {[spec.name for spec in specs]}"
                )
            values = [answer[spec.name] for spec in specs]
        elif len(specs) == 1:
            values = [answer]
        elif isinstance(answer, tuple) and len(answer) == len(specs):
            values = list(answer)
        else:
            raise self._wrong(f"must be a dict of the outputs {[spec.name for spec in specs]}")
        return [self._output(spec, value) for spec, value in zip(specs, values)]

    def _output(self, spec: TensorSpec, value: Any) -> np.ndarray:
        array = np.asarray(value, object if spec.dtype == STRING else None)
        if array.dtype != spec.dtype:
            listed = not isinstance(value, (np.ndarray, np.generic))
            if not (casts(array.dtype, spec.dtype) or (listed and array.dtype.kind in "iu")):
                raise self._wrong(f"is {array.dtype.name}, but output {spec.name!r} is {spec}")
            array = array.astype(spec.dtype)
        if spec.shape and spec.shape[0] is None and array.ndim == len(spec.shape) - 1:
            array = array[None]  # one row, for all
        if not spec.accepts(array.shape):
            raise self._wrong(f"has the shape {list(array.shape)}, but output {spec.name!r} is {spec}")
        return array

    def _for_rows(self, spec: TensorSpec, output: np.ndarray, rows: int) -> np.ndarray:
        if len(output) == 1:
            return np.repeat(output, rows, axis=0)
        if len(output) != rows:
            raise ModelFailed(
                f"the canned {spec.name!r} has {len(output)} rows for {rows} rows of input; give one row for all"
            )
        return output

    def _wrong(self, what: str) -> InvalidInput:
        return InvalidInput(f"the canned answer of model {self.name!r} {what}")


class FakeEngine:
    """The Engine of `worker_client.in_process.engine`, of canned answers."""

    survives_fork = True

    def __init__(self, models: Any) -> None:
        if not isinstance(models, Mapping) or not models:
            raise InvalidInput(f"a fake's models must be a dict such as {_EXAMPLE}, got {models!r}")
        self.calls: list[Call] = []
        self._models = {number: FakeModel(*item) for number, item in enumerate(models.items(), 1)}

    def describe(self) -> dict[str, Any]:
        return {model.name: model.message(number) for number, model in self._models.items()}

    def run(self, number: int, feeds: Sequence[Any], deadline_ns: int) -> Sequence[np.ndarray]:
        model = self._models[number]
        arrays = [feed.read() if isinstance(feed, StringView) else feed.copy() for feed in feeds]
        names = [spec.name for spec in model.signature.inputs]
        self.calls.append(Call(model.name, model.signature.name, dict(zip(names, arrays))))
        _sleep(model.delay, deadline_ns)
        return model.answer(arrays)

    def ad_hoc(self, model: str, feeds: Sequence[str], fetches: Sequence[str]) -> dict[str, Any]:
        raise InvalidInput(f"model {model!r} is a fake and has no graph whose tensors a session could run")


def _sleep(seconds: float, deadline_ns: int) -> None:
    """No longer than somebody waits. Raises DeadlineExceeded."""
    left = max(0.0, (deadline_ns - monotonic_ns()) / 1e9)
    time.sleep(min(seconds, left))
    if seconds > left:
        raise DeadlineExceeded("the fake's delay is longer than the call's timeout")


def _in_turn(answer: Any) -> list[Any]:
    """The answers of one call after the other, the last of them for all that follow. Only a list that holds errors or
    functions is several answers; any other is one answer, a list of numbers."""
    several = isinstance(answer, list) and any(callable(each) or _is_error(each) for each in answer)
    return list(answer) if several else [answer]


def _is_error(answer: Any) -> bool:
    return isinstance(answer, BaseException) or (isinstance(answer, type) and issubclass(answer, BrokerError))


def _specs(model: str, side: str, described: Any) -> tuple[TensorSpec, ...]:
    made: list[TensorSpec] = []
    for name, form in dict(described).items():
        try:
            dtype, shape = form
            made.append(TensorSpec(name, dtype_named(dtype), None if shape is None else tuple(shape)))
        except (TypeError, ValueError) as error:
            raise InvalidInput(
                f"{side} of the fake's model {model!r}: {name!r} must be (dtype, shape) such as "
                f'("float32", [None, 64]), got {form!r}: {error}'
            ) from None
    return tuple(made)
