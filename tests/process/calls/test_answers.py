"""Each call gets its own answer: whatever was in its slot before, and whatever else is asked at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from broker import signature
from broker.control_plane.query import ask
from tests.brokers import TestBroker, serving
from tests.process.models import HEAVY_SECONDS
from tests.workers import workers
from worker_client import BrokerUnavailable, Client, connect
from worker_client.attachment.slot import Slot

WIDTH = 512


@signature(inputs={"text": ("string", [None])}, outputs={"embedding": ("float32", [None, WIDTH])})
def embed(text: np.ndarray) -> np.ndarray:
    """Strings to numbers: the request is small, the answer outgrows its region with a few rows."""
    return np.tile(np.array(text, np.float32)[:, None], (1, WIDTH))


@signature(inputs={"n": ("int64", [None])}, outputs={"text": ("string", [None, 1])})
def spell(n: np.ndarray) -> np.ndarray:
    """Numbers to strings, of any length."""
    made = np.empty((len(n), 1), object)
    made[:, 0] = [b"%d." % one * int(one) for one in n]
    return made


@signature(inputs={"x": ("float32", [None, 4])}, outputs={"y": ("float32", [None])})
def heavy_sum(x: np.ndarray) -> np.ndarray:
    time.sleep(HEAVY_SECONDS)
    return np.asarray(x.sum(1))


@signature(inputs={"x": ("float32", [None, 4])}, outputs={"y": ("float32", [None])})
def light_sum(x: np.ndarray) -> np.ndarray:
    return np.asarray(x.sum(1))


MODELS = {name: f"{__name__}:{name}" for name in ("embed", "spell", "heavy_sum", "light_sum")}


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    models = {name: {"source": source, "batching": True} for name, source in MODELS.items()}
    with serving(models=models) as running:
        yield running
        assert ask(running.address, "stats")["stats"]["faults"] == {"late_completion": 0, "foreign_answer": 0}


SIZES = [1, 4, 1, 1, 9, 4, 1, 70, 9, 1, 300, 70, 1, 4]


def test_an_answer_that_outgrows_its_region_leaves_none_behind(client: Client) -> None:
    """With strings in and numbers out, each request gets its own answer while answers on one slot grow and shrink."""
    model = client.model("embed")
    for turn, rows in enumerate(SIZES):
        wanted = [1000 * turn + row for row in range(rows)]
        answer = model.predict([str(one) for one in wanted])
        assert answer.shape == (rows, WIDTH)
        assert (answer == np.array(wanted, np.float32)[:, None]).all()


def test_strings_that_outgrow_their_region_leave_none_behind(client: Client) -> None:
    """With numbers in and strings out, each request gets its own answer while answers on one slot grow and shrink."""
    model = client.model("spell")
    for first in (1, 40, 1, 2, 3000, 40, 1, 3000, 2):
        n = np.array([first, 1, 2])
        assert model.predict(n)[:, 0].tolist() == [b"%d." % one * int(one) for one in n]


def test_models_take_turns_on_one_slot(client: Client, rng: np.random.Generator) -> None:
    """Each call gets its own answer, whatever the slot held before, of whatever model: strings and numbers, large and
    small."""
    embedding, spelled, summed = (client.model(name) for name in ("embed", "spell", "light_sum"))
    for _ in range(60):
        number = int(rng.integers(1, 500))
        rows = int(rng.integers(0, 12))
        assert (embedding.predict([str(number)] * rows) == number).all()
        assert spelled.predict(np.array([number])).tolist() == [[b"%d." % number * number]]
        x = np.full((rows, 4), number, np.float32)
        np.testing.assert_array_equal(summed.predict(x), np.full(rows, 4 * number, np.float32))


@pytest.mark.parametrize("name", ["heavy_sum", "light_sum"])
def test_requests_of_no_rows_beside_others(broker: TestBroker, name: str) -> None:
    """Some callers send no rows, others one or two: each gets as many as it sent, and its own, then and later."""

    def call(number_of_worker: int) -> None:
        with connect(broker.address) as client:
            model, wrong = client.model(name), []

            def ask_often(thread: int) -> None:
                for turn in range(60):
                    rows = (0, 0, 1, 0, 2, 0, 0, 1)[(turn + thread) % 8] if turn < 40 else 1
                    number = 1000 * number_of_worker + 100 * thread + turn
                    answer = model.predict(np.full((rows, 4), number, np.float32), timeout=30)
                    if answer.tolist() != [4 * number] * rows:
                        wrong.append((rows, number, answer.tolist()))

            threads = [threading.Thread(target=ask_often, args=(thread,)) for thread in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert not wrong

    with workers(3, call) as callers:
        for caller in callers:
            caller.result()


@pytest.fixture
def tampering(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Answers whose head says another use, as often as the list has elements: what only a fault of the broker does."""
    times: list[int] = []
    result = Slot.result

    def tampered(slot: Slot) -> tuple[np.ndarray, ...]:
        if times:
            times.pop()
            slot.output.head[0] += 1
        return result(slot)

    monkeypatch.setattr(Slot, "result", tampered)
    return times


@pytest.mark.parametrize("how", ["predict", "submit", "request"])
def test_an_answer_to_something_else_is_asked_for_again(
    tampering: list[int], caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """The worker closes its channel, runs the call again on a new one, and gets its answer; broker and worker log it,
    and the broker counts it."""
    with serving(models={"light_sum": MODELS["light_sum"]}) as running:
        with connect(running.address) as client:
            model = client.model("light_sum")
            x = np.ones((1, 4), np.float32)
            model.predict(x)
            channel = model.binding().channel  # type: ignore[union-attr]
            tampering.append(1)
            if how == "predict":
                answer = model.predict(x)
            elif how == "submit":
                answer = model.submit(x).result(30)
            else:
                with model.request(rows=1) as request:
                    request["x"][...] = x
                    answer = request.run()["y"].copy()
            assert answer.tolist() == [4]
            assert not channel.open
            assert "holds an answer to use" in caplog.text
        assert ask(running.address, "stats")["stats"]["faults"]["foreign_answer"] == 1


def test_an_answer_to_something_else_is_told_in_the_end(tampering: list[int]) -> None:
    """If wrong answers keep coming, the call fails and says why: it never returns a wrong answer."""
    with serving(models={"light_sum": MODELS["light_sum"]}) as running, connect(running.address) as client:
        model = client.model("light_sum")
        tampering.extend([1] * 50)
        with pytest.raises(BrokerUnavailable, match=r"holds an answer to use .* was run again"):
            model.predict(np.ones((1, 4), np.float32))
        tampering.clear()
        assert model.predict(np.ones((1, 4), np.float32)).tolist() == [4]
