"""Models that this process made and still uses, served to its children."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import worker_client
from broker import Broker, adopt
from tests.brokers import folder, wait_until
from tests.workers import Talk, worker
from worker_client import BrokerUnavailable, InvalidInput

v1 = tf.compat.v1
X = np.arange(8, dtype=np.float32).reshape(2, 4)


@contextmanager
def owned(factor: float) -> Iterator[tuple[Any, Any, Any, Any]]:
    """A session that some module made for itself: x * factor, where factor is a variable."""
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        variable = v1.get_variable("factor", initializer=factor, use_resource=True)
        y = tf.multiply(x, variable, name="y")
        session.run(v1.global_variables_initializer())
        yield session, x, y, variable


@contextmanager
def started(broker: Broker) -> Iterator[Broker]:
    with broker:
        yield broker


def ask(address: str, model: str) -> np.ndarray:
    with worker_client.connect(address, timeout=30) as client:
        answer: np.ndarray = client.model(model).predict(X)
        return answer


def test_a_session_that_another_module_owns() -> None:
    """Children get the session's answers while its owner uses it, see its variables change, and leave it open."""
    with folder() as place, owned(3.0) as (session, x, y, variable):
        with started(Broker.from_session(session, {"x": x}, {"y": "y:0"}, name=f"{place}/b.sock")) as broker:
            with worker(ask, broker.address, "model") as child:
                np.testing.assert_array_equal(child.result(), X * 3)
            np.testing.assert_array_equal(session.run(y, {x: X}), X * 3)
            variable.load(5.0, session)
            with worker(ask, broker.address, "model") as child:
                np.testing.assert_array_equal(child.result(), X * 5)
        np.testing.assert_array_equal(session.run(y, {x: X}), X * 5)


def test_models_of_this_process_among_the_models() -> None:
    """A session with its tensors and a Keras model, each by its kind; a session alone says what it lacks."""
    inputs = tf.keras.Input((4,))
    net = tf.keras.Model(inputs, tf.keras.layers.Rescaling(7.0)(inputs))
    with folder() as place, owned(3.0) as (session, x, y, _):
        models = {"session": {"source": session, "inputs": {"x": x}, "outputs": {"y": y}}, "net": net}
        with started(Broker(models, name=f"{place}/b.sock")) as broker:
            for name, factor in (("session", 3), ("net", 7)):
                with worker(ask, broker.address, name) as child:
                    np.testing.assert_array_equal(child.result(), X * factor)
        with pytest.raises(InvalidInput, match="model 'm': which of the session's tensors. write models="):
            Broker({"m": session})


def test_children_forked_before_the_broker_are_served() -> None:
    """And a client made before the fork does."""
    with folder() as place, owned(2.0) as (session, x, y, _):
        client = worker_client.connect(f"{place}/b.sock", timeout=30)

        def later(talk: Talk) -> np.ndarray:
            talk.hear()
            answer: np.ndarray = client.model("m").predict(X)
            return answer

        with worker(later, talk=True) as child:
            made = adopt.session("m", session, {"x": x}, {"y": y})
            with started(Broker(name=f"{place}/b.sock", adopted=[made])):
                child.say()
                np.testing.assert_array_equal(child.result(), X * 2)


def test_default_graphs_and_sessions_of_32_threads() -> None:
    """Several modules' sessions are served while 32 threads each use their own graph and session as default."""
    errors: list[Exception] = []
    stop = threading.Event()

    def module(number: int) -> None:
        try:
            with tf.Graph().as_default() as graph, v1.Session() as session:
                x = v1.placeholder(tf.float32, [None, 4])
                y = x + number
                while not stop.is_set():
                    assert v1.get_default_graph() is graph
                    assert v1.get_default_session() is session
                    np.testing.assert_array_equal(y.eval({x: X}), X + number)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=module, args=(number,)) for number in range(32)]
    with folder() as place, owned(2.0) as (one, x1, y1, _), owned(7.0) as (two, x2, y2, _):
        made = [
            adopt.session("one", one, {"x": x1}, {"y": y1}),
            adopt.session("two", two, {"x": x2}, {"y": y2}),
        ]
        for thread in threads:
            thread.start()
        try:
            with started(Broker(name=f"{place}/b.sock", adopted=made)) as broker:
                for _ in range(3):
                    with worker(ask, broker.address, "one") as a, worker(ask, broker.address, "two") as b:
                        np.testing.assert_array_equal(a.result(), X * 2)
                        np.testing.assert_array_equal(b.result(), X * 7)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert not errors


def test_a_function_of_this_process() -> None:
    """A function of this process is called here, so that it sees the state of this process."""
    seen: list[int] = []

    def double(x: np.ndarray) -> np.ndarray:
        seen.append(len(x))
        return x * 2

    side = {"x": ("float32", [None, 4])}
    with folder() as place:
        broker = Broker.from_function(double, side, {"y": ("float32", [None, 4])}, name=f"{place}/b.sock")
        with started(broker), worker(ask, broker.address, "model") as child:
            np.testing.assert_array_equal(child.result(), X * 2)
        assert 2 in seen
    with pytest.raises(InvalidInput, match="is not a callable with a signature; give inputs= and outputs="):
        Broker.from_function(double)


def test_a_keras_model_of_this_process() -> None:
    """The workers' answers are the model's own, also after it was trained on."""
    inputs = tf.keras.Input((4,), name="x")
    net = tf.keras.Model(inputs, tf.keras.layers.Dense(3)(inputs))
    with folder() as place, started(Broker.from_keras(net, name=f"{place}/b.sock")) as broker:
        for _ in range(2):
            with worker(ask, broker.address, "model") as child:
                np.testing.assert_allclose(child.result(), net(X).numpy(), rtol=1e-6)
            net.set_weights([weight + 1 for weight in net.get_weights()])
    with pytest.raises(InvalidInput, match="is not a built Keras model"):
        Broker.from_keras(tf.keras.Sequential([tf.keras.layers.Dense(3)]))


def test_what_cannot_be_adopted() -> None:
    """The error names the model and what was wrong, in TensorFlow's words where it is the graph."""
    with owned(1.0) as (session, x, y, _):
        with pytest.raises(InvalidInput, match="is not a tf.compat.v1.Session"):
            adopt.session("m", object(), {"x": x}, {"y": y})
        with pytest.raises(InvalidInput, match="cannot be interpreted as a Tensor"):
            adopt.session("m", session, {"x": x}, {"y": "nope:0"})
        with pytest.raises(InvalidInput, match="is an operation and has no value"):
            adopt.session("m", session, {"x": x}, {"y": "y"})
        with pytest.raises(InvalidInput, match="returns at least one tensor"):
            adopt.session("m", session, {"x": x}, {})


def test_a_child_of_the_broker_holds_nothing_of_it() -> None:
    """A child forked while workers are attached does not keep their connections open: they see the broker end."""

    def attached(talk: Talk, address: str) -> str:
        client = worker_client.connect(address, timeout=60, retries=0)
        np.testing.assert_array_equal(client.model("m").predict(X), X * 4)
        talk.say()
        talk.hear()
        try:
            client.model("m").predict(X)
        except BrokerUnavailable:
            return "told"
        return "not told"

    def bystander(talk: Talk) -> None:
        talk.say()
        talk.hear()

    with folder() as place, owned(4.0) as (session, x, y, _):
        broker = Broker(name=f"{place}/b.sock", adopted=[adopt.session("m", session, {"x": x}, {"y": y})])
        broker.start()
        with worker(attached, broker.address, talk=True) as first:
            first.hear()
            with worker(bystander, talk=True) as other:
                other.hear()
                broker.stop()
                first.say()
                assert first.result() == "told"
                wait_until(lambda: not (place / "b.sock.lock").exists(), "the lock's end")
                with started(
                    Broker(name=f"{place}/b.sock", adopted=[adopt.session("m", session, {"x": x}, {"y": y})])
                ):
                    pass
                other.say()
                other.result()
