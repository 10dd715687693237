"""The client without a broker: in one process, for the tests of an app, and for development on macOS and Windows.

client = worker_client.testing.inline({"digits": "models/digits"})     # the real model, in this process
client = worker_client.testing.fake({"digits": {"inputs": ..., "outputs": ..., "answer": ...}})     # canned answers

Both are the client of `worker_client.connect`, with its models, requests, futures, sessions and errors; inputs are
checked by the same code. `client.address` redirects an app that connects by itself: set $BROKER_ADDRESS to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker_client import timeouts
from worker_client.client import Client, checked_retries
from worker_client.in_process import inline as inline_models
from worker_client.in_process.connection import InProcessConnection
from worker_client.in_process.engine import Source, registered
from worker_client.testing.fakes import Call, FakeEngine

__all__ = ["Call", "FakeClient", "fake", "inline"]


def inline(models: Mapping[str, Any], *, timeout: float | None = None, retries: int = 1) -> Client:
    """A client of models that run in this process, as `connect("inline:digits=models/digits")` is.

    `models` is what `broker.Broker` takes: {name: path, "module:function", function, Keras model, or a dict of
    settings}. They are loaded at the first call, by the broker's own loaders, and that time does not count for its
    timeout. Each request runs by itself, one after the other, on a thread of its own: nothing is batched, tuned or
    started again. A client whose models need TensorFlow cannot be used in a child that is forked after the first call.
    Raises InvalidInput. Calls raise BrokerUnavailable if no model can be loaded.
    """
    source = inline_models.of_models(models)
    return Client(_connection(source, inline_models.of_models, dict(models)), *_options(timeout, retries))


class FakeClient(Client):
    """A client of models with canned answers."""

    @property
    def calls(self) -> list[Call]:
        """The requests that were answered so far, in their order: model, signature, inputs by name."""
        return self._engine.calls

    @property
    def _engine(self) -> FakeEngine:
        engine: Any = self._connection.engine()  # type: ignore[attr-defined]
        return engine  # type: ignore[no-any-return]


def fake(models: Mapping[str, Any], *, timeout: float | None = None, retries: int = 1) -> FakeClient:
    """A client whose models are made up: {name: {"inputs": ..., "outputs": ..., "answer": ...}}.

    `inputs` and `outputs` map names to (dtype, shape), as `broker.signature` takes them. `answer` is what a call
    returns: an array of one row, which each row of a request gets, or of as many rows as it has; a dict of arrays by
    output name; a function of the inputs by position; or an error to raise, such as `Overloaded`. A list that holds
    errors or functions answers one call after the other, and the last answers all that follow. `delay` is in seconds,
    `version` a number, `signature` a name. Raises InvalidInput.
    """
    engine = FakeEngine(models)  # a mistake is reported now
    source = _of_engine(engine)
    return FakeClient(_connection(source, _of_engine, engine), *_options(timeout, retries))


def _of_engine(engine: FakeEngine) -> Source:
    return registered(engine.describe(), lambda: engine)


def _connection(source: Source, make: Any, argument: Any) -> Any:
    """It stands in for a Connection, which is Linux's."""
    return InProcessConnection(source, (make, argument))


def _options(timeout: float | None, retries: int) -> tuple[float | None, int]:
    seconds = timeouts.of_environment() if timeout is None else timeouts.checked(timeout)
    return seconds, checked_retries(retries)
