"""The client without a broker: the same calls of a real broker and of the models in this process, side by side, and
what only the latter has: addresses, threads, forks."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import broker
import worker_client
from tests.brokers import TestBroker, serving
from tests.forks import in_c_child
from tests.process.models import sources
from tests.workers import in_child
from worker_client import BrokerUnavailable, Client, DeadlineExceeded, InvalidInput, ModelFailed, aio, testing

NAMES = ("double", "tell", "mixed", "add", "picky", "echo_int32")
ROW = np.ones((1, 4), np.float32)
WRONG: list[tuple[str, Any]] = [
    ("double", np.ones((2, 5), np.float32)),
    ("double", np.ones(4, np.float32)),
    ("double", ROW.astype("U4")),
    ("double", {"z": ROW}),
    ("double", {}),
    ("double", [["a"]]),
    ("tell", ROW),
    ("tell", {"x": ROW}),
    ("tell", {"x": ROW, "row": np.array([0.5])}),
    ("echo_int32", np.ones(3)),
    ("echo_int32", [0.5]),
    ("echo_int32", [1 << 40]),
    ("picky", np.full((1, 4), 13.0, np.float32)),
]
"""A model, and what it does not take."""


def inline_address(*names: str) -> str:
    return "inline:" + ",".join(f"{name}={source}" for name, source in sources(*names).items())


@pytest.fixture(scope="module")
def real() -> Iterator[TestBroker]:
    with serving(*NAMES) as running:
        yield running


@pytest.fixture
def clients(real: TestBroker) -> Iterator[tuple[Client, Client]]:
    """Of the broker, and of the same models here."""
    with (
        worker_client.connect(real.address) as of_broker,
        worker_client.connect(inline_address(*NAMES)) as here,
    ):
        yield of_broker, here


def told(error: BaseException) -> tuple[type[BaseException], str]:
    return type(error), str(error)


@pytest.mark.parametrize(("model", "inputs"), WRONG)
def test_wrong_inputs_are_told_word_for_word(clients: tuple[Client, Client], model: str, inputs: Any) -> None:
    """The class and the message are a broker's, for `predict`, `submit`, `map` and in an event loop."""
    found: list[list[Any]] = []
    for client in clients:
        handle = client.model(model)
        errors = []
        for call in (
            lambda: handle.predict(inputs),  # noqa: B023 - called at once
            lambda: handle.submit(inputs).result(),  # noqa: B023
            lambda: list(handle.map([inputs])),  # noqa: B023
            lambda: asyncio.run(_predict(client.address, model, inputs)),  # noqa: B023
        ):
            with pytest.raises((InvalidInput, ModelFailed)) as caught:
                call()
            errors.append(told(caught.value))
        found.append(errors)
    assert found[0] == found[1]


async def _predict(address: str, model: str, inputs: Any) -> Any:
    async with aio.connect(address) as client:
        return await client.model(model).predict(inputs)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda client: client.model("nosuch").predict(ROW),
        lambda client: client.model("double", version=7).predict(ROW),
        lambda client: client.model("double", label="canary").predict(ROW),
        lambda client: client.model("double", signature="nosuch").predict(ROW),
        lambda client: client.model("double", strict=True).predict(ROW.astype(np.float64)),
        lambda client: client.model("double").predict(ROW, timeout="soon"),
        lambda client: client.model("double").predict(ROW, batch_size=0),
        lambda client: client.model("double").predict(ROW, callbacks=[]),
        lambda client: client.model("double")(ROW, training=True),
        lambda client: client.model("double").request(rows=None),
        lambda client: client.model("double").request(shapes={"z": (1,)}),
        lambda client: client.session("double").run("y:0", {"x:0": ROW}),
        lambda client: client.model("double").map([ROW], max_in_flight=0),
    ],
)
def test_wrong_calls_are_told_word_for_word(clients: tuple[Client, Client], wrong: Any) -> None:
    """So are models, versions, labels and signatures that are not there, and arguments that cannot be."""
    found = []
    for client in clients:
        with pytest.raises(worker_client.BrokerError) as caught:
            wrong(client)
        found.append((type(caught.value), str(caught.value).replace(client.address, "ADDRESS")))
    assert found[0] == found[1]


def test_what_a_client_shows_of_its_models(clients: tuple[Client, Client]) -> None:
    """Signatures, versions, inputs, outputs, defaults of handles, and their reprs are a broker's."""
    shown = []
    for client in clients:
        models = client.models()
        here = []
        for name in sorted(NAMES):
            info, model = models[name], client.model(name)
            signatures = {key: each.signature for key, each in info.signatures.items()}
            here.append(
                (
                    info.name,
                    info.version,
                    info.default_signature,
                    signatures,
                    sorted(info.versions),
                    info.labels,
                )
            )
            here.append(
                (model.inputs, model.outputs, model.current_version, model.timeout, model.retries, dir(model))
            )
            here.append(repr(model).replace(client.address, "ADDRESS"))
        shown.append(here)
    assert shown[0] == shown[1]


def test_answers_are_the_same_bits(clients: tuple[Client, Client], rng: np.random.Generator) -> None:
    """Of all ways to call, with casts, lists, scalars and several outputs."""
    x, rows = rng.random((9, 4)), np.arange(9)
    mixed = {
        "a": rows.reshape(9, 1).repeat(2, 1).astype(np.int32),
        "b": rng.random(9),
        "flag": rng.random((9, 1, 3)) < 0.5,
    }
    found = []
    for client in clients:
        double, tell = client.model("double"), client.model("tell")
        with double.request(rows=9) as request:
            request["x"] = x
            in_place = request.run()["y"].copy()
        whole = tell.predict({"x": x, "row": rows}, batch_size=4)
        found.append(
            [
                *(
                    double.predict(x),
                    double.predict(x.tolist()),
                    double(x),
                    in_place,
                    double.submit(x).result(),
                ),
                *double.map([x[:2], x[2:]]),
                *[answer for _, answer in sorted(double.map_unordered([x[:2], x[2:]]))],
                *(whole["y"], *client.model("mixed").predict(mixed).values()),
                *client.model("add").predict({"a": 2.5, "b": np.float64(4)}).values(),
            ]
        )
    for one, other in zip(*found, strict=True):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


# -- what only models in this process have ---------------------------------------------------------------------------


@broker.signature(inputs={"x": ("float32", [None, 4])}, outputs={"y": ("float32", [None, 4])})
def triple(x: np.ndarray) -> np.ndarray:
    return x * 3


def test_the_address_redirects_an_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """$BROKER_ADDRESS leads `connect()` of an app that names no address to models in its own process."""
    monkeypatch.setenv("BROKER_ADDRESS", inline_address("double", "tell"))
    with worker_client.connect() as client:
        assert sorted(client.models()) == ["double", "tell"]
        np.testing.assert_array_equal(client.model("double").predict(ROW), 2 * ROW)
    np.testing.assert_array_equal(asyncio.run(_predict("", "double", ROW)), 2 * ROW)


def test_objects_have_an_address_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function of the test itself serves an app that connects by the environment, while the client is there."""
    client = testing.inline({"m": triple})
    monkeypatch.setenv("BROKER_ADDRESS", client.address)
    with worker_client.connect() as of_app:
        np.testing.assert_array_equal(of_app.model("m").predict(ROW), 3 * ROW)
    del client, of_app
    gc.collect()
    with pytest.raises(
        InvalidInput, match="address of a client of another process, or one that nobody keeps"
    ):
        worker_client.connect()


def test_a_configuration_file_may_be_named(tmp_path: Path) -> None:
    """`inline:broker.toml` takes the models of the file, with their settings."""
    (tmp_path / "broker.toml").write_text(
        f'[models.d]\nsource = "{sources("double")["double"]}"\ntimeout = 7\n'
    )
    with worker_client.connect(f"inline:{tmp_path}/broker.toml") as client:
        assert client.model("d").timeout == 7
        np.testing.assert_array_equal(client.model("d").predict(ROW), 2 * ROW)


@pytest.mark.parametrize(
    ("address", "kind", "says"),
    [
        ("inline:", InvalidInput, "names no model; write inline:digits=models/digits"),
        ("inline:m=/nowhere/at/all", BrokerUnavailable, "model 'm' from '/nowhere/at/all' cannot be loaded"),
        ("inline:m=no.such.module:f", BrokerUnavailable, "there is no module 'no' on Python's path"),
    ],
)
def test_what_cannot_be_loaded(address: str, kind: type[Exception], says: str) -> None:
    """The address at `connect`, a model at the first call, in one line."""
    with pytest.raises(kind, match=says) as caught:
        worker_client.connect(address).models()
    assert "\n" not in str(caught.value)


def test_a_broker_cannot_have_the_address() -> None:
    """A broker, or a command, that is given such an address says what that stands for."""
    with pytest.raises(InvalidInput, match="stands for models in the process of an app that calls them"):
        broker.Broker({}, name="inline:m=models/m")


def test_clients_of_one_address_share_the_models() -> None:
    """Each module of an app may connect: the models are loaded once, and closing one client leaves the others."""
    first, second = (worker_client.connect(inline_address("double")) for _ in range(2))
    first.models(), second.models()
    assert first._connection.engine() is second._connection.engine()
    first.close()
    np.testing.assert_array_equal(second.model("double").predict(ROW), 2 * ROW)
    np.testing.assert_array_equal(first.model("double").predict(ROW), 2 * ROW)
    first.close(), second.close()


def test_closing_ends_the_threads_and_a_call_under_way() -> None:
    """A call that waits gets BrokerUnavailable; no thread is left once the run is over."""
    began, go_on = threading.Event(), threading.Event()

    @broker.signature(inputs={"x": ("float32", [None, 4])}, outputs={"y": ("float32", [None, 4])})
    def waits(x: np.ndarray) -> np.ndarray:
        began.set()
        go_on.wait(30)
        return x

    before = set(threading.enumerate())
    client = testing.inline({"m": waits})
    future = client.model("m").submit(ROW)
    assert began.wait(30)
    client.close()
    with pytest.raises(BrokerUnavailable, match="the client was closed while the call was under way"):
        future.result(30)
    go_on.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
    assert set(threading.enumerate()) <= before
    np.testing.assert_array_equal(client.model("m").predict(ROW), ROW)
    client.close()


def test_a_deadline_passes_while_the_model_runs() -> None:
    """The call ends at its deadline, the run goes on, and the next call waits for it."""
    began, go_on = threading.Event(), threading.Event()

    @broker.signature(inputs={"x": ("float32", [None, 4])}, outputs={"y": ("float32", [None, 4])})
    def waits(x: np.ndarray) -> np.ndarray:
        began.set()
        go_on.wait(30)
        return x

    with testing.inline({"m": waits}) as client:
        model = client.model("m")
        with pytest.raises(DeadlineExceeded, match="and the model has been running it for"):
            model.predict(ROW, timeout=0.1)
        assert began.is_set()
        go_on.set()
        np.testing.assert_array_equal(model.predict(ROW), ROW)


def test_loading_does_not_count() -> None:
    """A call whose timeout is shorter than its models take to load is answered: a broker has loaded them before."""

    client = testing.inline({"m": triple})
    source = client._connection._source
    make = source._make
    source._make = lambda: (threading.Event().wait(0.3), make())[1]
    with client:
        np.testing.assert_array_equal(client.model("m").predict(ROW, timeout=0.2), 3 * ROW)


def test_a_model_cannot_call_its_own_client() -> None:
    """It would wait for itself: the call is refused, and the others go on."""
    found: list[Client] = []

    @broker.signature(inputs={"x": ("float32", [None, 4])}, outputs={"y": ("float32", [None, 4])})
    def calls(x: np.ndarray) -> np.ndarray:
        return found[0].model("m").predict(x)

    with testing.inline({"m": calls, "t": triple}) as client:
        found.append(client)
        with pytest.raises(ModelFailed, match="a model cannot call the client that runs it"):
            client.model("m").predict(ROW, timeout=20)
        np.testing.assert_array_equal(client.model("t").predict(ROW), 3 * ROW)


@pytest.mark.parametrize("forked", [in_child, in_c_child])
def test_children_have_their_own(forked: Any) -> None:
    """A child forked after the first call runs Python models itself, and so does its parent still."""
    with testing.inline({"m": triple}) as client:
        model = client.model("m")
        model.predict(ROW)

        def child() -> None:
            np.testing.assert_array_equal(model.predict(ROW), 3 * ROW)
            np.testing.assert_array_equal(model.submit(ROW).result(30), 3 * ROW)

        forked(child)
        np.testing.assert_array_equal(model.predict(ROW), 3 * ROW)


def test_pickles_and_copies() -> None:
    """A copy in this process uses the same models; a pickle works in another process where its sources do."""
    client = worker_client.connect(inline_address("double"))
    model = client.model("double")
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(ROW), 2 * ROW)
    assert again._connection is model._connection
    client.close()


def test_relative_paths_count_from_where_connect_was_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The models are loaded later, when the app may have gone elsewhere."""
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(
        'import broker\n@broker.signature(inputs={"x": ("float32", [None, 4])},\n'
        '    outputs={"y": ("float32", [None, 4])})\n'
        "def f(x):\n    return x + 1\n"
    )
    monkeypatch.chdir(tmp_path)
    client = worker_client.connect("inline:models/mine")
    monkeypatch.chdir(os.sep)
    with client:
        np.testing.assert_array_equal(client.model("mine").predict(ROW), ROW + 1)
