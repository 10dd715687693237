"""Right and wrong uses of what apps call. mypy tells each of the wrong ones: else it tells that an `ignore` is unused.

Nothing runs this file; test_typed_face.py has it checked.
"""

from typing import Any

import numpy as np
from typing_extensions import assert_type

from broker import Broker, ModelSpec
from broker.integrations import gunicorn
from worker_client import TensorSpec, aio, connect

x = np.ones((1, 4), np.float32)


def calls() -> None:
    client = connect("name", timeout=5, wait="block")
    model = client.model("digits", priority="bulk")
    assert_type(model.predict(x), np.ndarray)
    assert_type(model.predict([[1.0, 2.0]], batch_size=8, verbose=0), np.ndarray)
    assert_type(model.predict({"x": x}, timeout=1), dict[str, np.ndarray])
    assert_type(model(x), np.ndarray)
    assert_type(model({"x": x}), dict[str, np.ndarray])
    assert_type(model.inputs, tuple[TensorSpec, ...])
    assert_type(model.outputs, tuple[TensorSpec, ...])
    client.session("digits", priority="interactive")

    model.predict(x).items()  # type: ignore[attr-defined]
    _ = model.predict({"x": x}).shape  # type: ignore[attr-defined]
    model.predict(x, timeout="5")  # type: ignore[call-overload]
    client.model("digits", priority="low")  # type: ignore[arg-type]
    client.session("digits", priority="low")  # type: ignore[arg-type]
    connect(wait="spin")  # type: ignore[arg-type]


async def tasks() -> None:
    model = aio.connect().model("digits", priority="bulk")
    assert_type(await model.predict(x), np.ndarray)
    assert_type(await model.predict({"x": x}), dict[str, np.ndarray])

    _ = (await model.predict({"x": x})).shape  # type: ignore[attr-defined]
    aio.connect().model("digits", priority="low")  # type: ignore[arg-type]


def brokers(session: Any) -> None:
    models = {"digits": "models/digits"}
    with Broker(
        models, max_slots=3, tune="off", log_level="info", start_seconds=5, metrics_socket=None
    ) as broker:
        assert_type(broker, Broker)
    Broker([ModelSpec("digits", "models/digits", max_batch_size=8)], "name", allow_uid=[1000])
    Broker.from_config("broker.toml", start_seconds=5, slots=4)
    Broker.from_session(session, inputs={}, outputs={}, idle_seconds=5)
    gunicorn.serve(globals(), models, max_slots=3, start_seconds=5)

    Broker(models, max_slot=3)  # type: ignore[call-arg]
    Broker(models, slots="3")  # type: ignore[arg-type]
    Broker(models, tune="on")  # type: ignore[arg-type]
    Broker.from_config("broker.toml", max_slot=3)  # type: ignore[call-arg]
    Broker.from_session(session, {}, {}, max_slot=3)  # type: ignore[call-arg]
    gunicorn.serve(globals(), models, max_slot=3)  # type: ignore[call-arg]
    ModelSpec("digits", "models/digits", max_batch=8)  # type: ignore[call-arg]
