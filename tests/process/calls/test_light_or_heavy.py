"""Which thread runs a model whose runs are not alike: the intake's runs none that may hold up the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from broker.control_plane.query import ask
from broker.scheduling.lightness import SHORT_RUNS
from tests.brokers import TestBroker, serving, wait_until
from tests.process.uneven_models import APART, COPIED, FAILING, INLINE, SLOW
from worker_client import Client, ModelFailed, connect

ROW = np.zeros(1, np.float32)
MODULE = "tests.process.uneven_models"


def state(broker: TestBroker, model: str) -> tuple[bool, str]:
    """As `onesession stats` and `onesession models` have it, which must agree."""
    (counted,) = [
        each for each in ask(broker.address, "stats")["stats"]["signatures"] if each["model"] == model
    ]
    info = ask(broker.address, "models")["models"][model]
    (version,) = info["versions"]
    (signature,) = version["signatures"]
    found = {(each["light"], each["why"]) for each in (counted, info, version, signature)}
    assert len(found) == 1
    return found.pop()


def assert_turns_heavy(broker: TestBroker, model: str) -> None:
    """By its last run, which is weighed after the answer."""
    wait_until(lambda: not broker.counters(model)["light"], f"{model} to be heavy")
    assert state(broker, model) == (False, "long run")


def where(client: Client, model: str, value: float) -> int:
    return int(client.model(model).predict(ROW + value)[0])


@pytest.fixture
def broker() -> Iterator[TestBroker]:
    """`even` and `uneven` as they come, and as one that must stay off the intake thread."""
    models: dict[str, Any] = {
        name: f"{MODULE}:{name}" for name in ("even", "uneven", "spoiled", "gated", "copied")
    }
    models["kept"] = {"source": f"{MODULE}:even", "inline": False}
    models["unmeasured"] = {"source": f"{MODULE}:even", "warmup": False}
    models["parts"] = {"source": f"{MODULE}:uneven", "max_batch_size": 1}
    with serving(models=models) as running:
        yield running


@pytest.fixture
def client(broker: TestBroker) -> Iterator[Client]:
    with connect(broker.address, timeout=60) as made:
        yield made


def test_one_request_in_twenty_is_slow(broker: TestBroker, client: Client) -> None:
    """The first such run makes it heavy; of those that follow none holds the intake thread."""
    assert state(broker, "uneven") == (True, "measured")
    assert where(client, "even", 0) == INLINE
    places = [where(client, "uneven", SLOW if number % 20 == 19 else 0) for number in range(100)]
    assert APART not in places[:19]
    slow = places[19::20]
    assert slow == [INLINE, APART, APART, APART, APART]
    assert set(places[20:]) == {APART}
    assert state(broker, "uneven") == (False, "long run")


def test_slow_runs_that_fail_count_as_well(broker: TestBroker, client: Client) -> None:
    with pytest.raises(ModelFailed, match="as asked"):
        where(client, "uneven", FAILING)
    assert_turns_heavy(broker, "uneven")
    assert where(client, "uneven", 0) == APART


def test_answers_that_take_long_to_copy_count_as_well(broker: TestBroker, client: Client) -> None:
    """The intake thread copies the answers of what it runs."""
    copied = client.model("copied")
    assert state(broker, "copied") == (True, "measured")
    answer = copied.predict({"x": np.float32(1)})
    assert (answer["thread"], answer["zeros"].shape) == (INLINE, (1, COPIED))
    copied.predict({"x": np.float32(1)})
    assert_turns_heavy(broker, "copied")
    assert copied.predict({"x": np.float32(0)})["thread"] == APART


def test_what_is_not_measured_is_heavy_until_many_runs_were_short(broker: TestBroker, client: Client) -> None:
    assert state(broker, "unmeasured") == (False, "unmeasured")
    places = [where(client, "unmeasured", 0) for _ in range(SHORT_RUNS)]
    assert set(places) == {APART}
    while where(client, "unmeasured", 0) == APART:  # on a busy machine some runs may not count as short
        pass
    assert state(broker, "unmeasured") == (True, "short runs")


def test_inline_false_keeps_it_off_the_intake_thread(broker: TestBroker, client: Client) -> None:
    assert {where(client, "kept", 0) for _ in range(2 * SHORT_RUNS)} == {APART}
    assert state(broker, "kept") == (False, "inline = false")


@pytest.mark.parametrize(
    ("model", "requests", "rows"),
    [("uneven", 6, 40), ("parts", 1, 6), ("parts", 2, 20)],
    ids=["requests", "parts of one request", "parts of several"],
)
def test_what_waits_goes_along(
    broker: TestBroker, client: Client, model: str, requests: int, rows: int
) -> None:
    """Requests that were queued for the intake thread while the signature was light are not run there one by one."""
    gate = client.model("gated").submit(ROW + 7)
    broker.gate.wait_for(7)  # the intake thread is in the model
    futures = [client.model(model).submit(np.full(rows, SLOW, np.float32)) for _ in range(requests)]
    broker.gate.open(7)
    gate.result()
    places = np.concatenate([future.result() for future in futures]).tolist()
    assert len(places) == requests * rows
    batch = rows if model == "uneven" else 1
    assert places.count(INLINE) == batch
    assert places.count(APART) == len(places) - batch


@pytest.mark.parametrize(
    ("model", "inline"), [("uneven", 0), ("spoiled", 1)], ids=["slow", "slow one by one"]
)
def test_a_batch_that_fails_is_no_excuse(broker: TestBroker, client: Client, model: str, inline: int) -> None:
    """Its requests are run again one by one: on the intake thread only until one of these runs was long."""
    gate = client.model("gated").submit(ROW + 7)
    broker.gate.wait_for(7)
    futures = [client.model(model).submit(ROW + value) for value in (SLOW, SLOW, FAILING, SLOW, SLOW)]
    broker.gate.open(7)
    gate.result()
    guilty = futures.pop(2)
    assert isinstance(guilty.exception(), ModelFailed)
    places = [int(future.result()[0]) for future in futures]
    assert places.count(INLINE) == inline
    assert state(broker, model) == (False, "long run")
