"""Versions of models: which are served, how the next one takes over, and what happens when it cannot."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import worker_client
from broker.cli import main
from broker.control_plane.query import ask
from tests import brokers
from tests.brokers import TestBroker, serving, wait_until
from tests.models.versions_on_disk import ONE, Versions, reload, states, version_of
from tests.workers import Talk, worker
from worker_client import Client, InvalidInput, ModelNotFound, aio

MANY = (
    "moving",
    "pinned",
    "labelled",
    "broken",
    "other",
    "rolled",
    "emptied",
    "making_room",
    "polled",
    "awaited",
    "futures",
)
RELOADS = 10
_GATE = "import pathlib\nGATE = pathlib.Path({gate!r})"
_WAIT = "while x[0] == 1 and not GATE.exists():\n        time.sleep(0.002)"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with brokers.folder() as path:
        yield path


@pytest.fixture(scope="module")
def on_disk(folder: Path) -> dict[str, Versions]:
    """Each test has a model of its own."""
    made = {name: Versions(folder / name) for name in MANY}
    for versions in made.values():
        versions.add(1)
    return made


@pytest.fixture(scope="module")
def broker(on_disk: dict[str, Versions]) -> Iterator[TestBroker]:
    models: dict[str, Any] = {name: versions.source for name, versions in on_disk.items()}
    models["pinned"] = {"source": models["pinned"], "versions": "latest:2"}
    models["labelled"] = {"source": models["labelled"], "labels": {"stable": 1}}
    models["making_room"] = {"source": models["making_room"], "unload_first": True}
    with serving("double", models=models) as running:
        yield running


# -- the next version takes over -----------------------------------------------------------------------------------


def call_on(talk: Talk, address: str) -> list[int]:
    """Call until told to stop; the versions that answered, without repetitions."""
    answered: list[int] = []
    with worker_client.connect(address, retries=0) as client:
        model = client.model("moving")
        while not talk.is_told:
            answers = {version_of(model), int(model.predict(np.zeros(3, np.float32))[2])}
            with model.request(rows=2) as request:
                request["x"][...] = 0
                answers.add(int(request.run()["y"][0]))
            for answer in sorted(answers):
                if answer not in answered[-1:]:
                    answered.append(answer)
                    talk.say(answer)
    return answered


def test_calls_go_on_through_reloads(broker: TestBroker, on_disk: dict[str, Versions]) -> None:
    """Two workers call without a pause while ten versions follow each other: none fails, and none goes back."""
    with (
        worker(call_on, broker.address, talk=True) as one,
        worker(call_on, broker.address, talk=True) as other,
    ):
        for each in (one, other):
            assert each.hear() == 1
        for number in range(2, RELOADS + 2):
            on_disk["moving"].add(number)
            outcome = reload(broker, "moving")
            assert (outcome["version"], outcome["loaded"], outcome["unloaded"]) == (
                number,
                [number],
                [number - 1],
            )
            for each in (one, other):
                assert each.hear() == number
        for each in (one, other):
            each.say("stop")
            assert each.result() == list(range(1, RELOADS + 2))


def test_futures_and_waiting_calls_go_on(
    broker: TestBroker, on_disk: dict[str, Versions], client: Client
) -> None:
    """Futures, too, are answered by one of the two versions, whichever took them."""
    model = client.model("futures")
    stop = threading.Event()
    failed: list[BaseException] = []
    answered: set[int] = set()

    def submit() -> None:
        while not stop.is_set():
            for answer in model.map([ONE] * 20):
                answered.add(int(answer[0]))

    thread = threading.Thread(target=lambda: _noting(failed, submit))
    thread.start()
    try:
        wait_until(lambda: 1 in answered or failed, "the first version to answer")
        on_disk["futures"].add(2)
        reload(broker, "futures")
        wait_until(lambda: 2 in answered or failed, "the second version to answer")
    finally:
        stop.set()
        thread.join()
    assert not failed
    assert answered == {1, 2}


def _noting(failed: list[BaseException], body: Any) -> None:
    try:
        body()
    except BaseException as error:
        failed.append(error)


def test_a_request_finishes_on_the_version_that_took_it(folder: Path) -> None:
    """The old version is unloaded when the last request that it has is finished, and not before."""
    versions = Versions(folder / "gated_versions")
    gate = folder / "gate"
    versions.add(1, before=_GATE.format(gate=str(gate)), body="time.sleep(0.002)\n    " + _WAIT)
    spec = {"source": versions.source, "max_concurrency": 2}
    with serving(models={"m": spec}) as broker, worker_client.connect(broker.address) as client:
        model = client.model("m")
        future = model.submit(np.ones(1, np.float32))
        broker.wait_for_in_flight(1)
        wait_until(lambda: _running(broker), "the request in the model")
        versions.add(2)
        outcomes: list[Any] = []
        reloading = threading.Thread(target=lambda: outcomes.append(reload(broker, "m")))
        reloading.start()
        try:
            wait_until(lambda: version_of(model) == 2, "the second version to answer")
            wait_until(
                lambda: states(broker, "m") == {1: "UNLOADING", 2: "AVAILABLE"}, "the first to be on its way"
            )
            assert not future.done()
        finally:
            gate.touch()
            reloading.join()
        assert future.result(30)[0] == 2  # 1 + 1: the first version's
        assert outcomes[0]["unloaded"] == [1]
        assert states(broker, "m") == {1: "END", 2: "AVAILABLE"}


def test_a_request_that_waits_for_company_keeps_its_version(folder: Path) -> None:
    """The old version is not unloaded before it has run what it was given, though nothing runs yet."""
    versions = Versions(folder / "held_versions")
    versions.add(1)
    spec = {"source": versions.source, "max_batch_size": 2, "max_delay": 2.0}
    with serving(models={"m": spec}) as broker, worker_client.connect(broker.address) as client:
        future = client.model("m").submit(ONE)
        broker.wait_for_in_flight(1)
        versions.add(2)
        assert reload(broker, "m")["unloaded"] == [1]
        assert [worker["in_flight"] for worker in broker.status()["workers"]] == [0]
        assert future.result(30)[0] == 1


def _running(broker: TestBroker) -> bool:
    return broker.status()["queues"]["m"]["rows"] == 0


def test_other_outputs_are_no_gap(broker: TestBroker, on_disk: dict[str, Versions], client: Client) -> None:
    """A version with other outputs has other numbers; handles find them by themselves, in every way to call."""
    model = client.model("other")
    assert version_of(model) == 1
    with model.request() as request:
        request["x"][...] = 0
        assert request.run()["y"][0] == 1
        on_disk["other"].add(2, outputs=2)
        reload(broker, "other")
        with pytest.raises(worker_client.BrokerUnavailable, match="other inputs or outputs"):
            request.run()
    answer = model.predict({"x": ONE})
    assert {name: int(value[0]) for name, value in answer.items()} == {"y": 2, "y1": 3}
    assert {name: int(value[0]) for name, value in model.submit({"x": ONE}).result(30).items()} == {
        "y": 2,
        "y1": 3,
    }


def test_an_event_loop_goes_on(broker: TestBroker, on_disk: dict[str, Versions]) -> None:
    """Awaited calls and open requests are taken along to the next version, with the same signature or another."""

    async def program() -> None:
        async with aio.connect(broker.address) as client:
            model = client.model("awaited")
            async with model.request(rows=1) as request:
                request["x"][...] = 0
                assert (await request.run())["y"][0] == 1
                on_disk["awaited"].add(2)
                await asyncio.to_thread(reload, broker, "awaited")
                assert (await request.run())["y"][0] == 2
                assert (await model.predict(ONE))[0] == 2
                on_disk["awaited"].add(3, outputs=2)
                await asyncio.to_thread(reload, broker, "awaited")
                with pytest.raises(worker_client.BrokerUnavailable, match="other inputs or outputs"):
                    await request.run()
            assert {name: y[0] for name, y in (await model.predict({"x": ONE})).items()} == {"y": 3, "y1": 4}

    asyncio.run(program())


# -- which versions ------------------------------------------------------------------------------------------------


def test_a_version_can_be_asked_for(broker: TestBroker, on_disk: dict[str, Versions], client: Client) -> None:
    """`version=` keeps a handle on one version, which is served as long as the policy wants it."""
    first = client.model("pinned", version=1)
    assert version_of(first) == 1
    model_cache = client._connection.channel().model_cache
    before = model_cache.models
    on_disk["pinned"].add(5)
    reload(broker, "pinned")
    model_cache.models = (
        before  # as if the news were still on their way: without a version they are not needed
    )
    assert version_of(client.model("pinned")) == 5
    assert (version_of(first), version_of(client.model("pinned", 5))) == (1, 5)
    on_disk["pinned"].add(7)
    assert reload(broker, "pinned")["unloaded"] == [1]
    wait_until(lambda: state_of(client, "pinned", 1) == "END", "the news")
    with pytest.raises(ModelNotFound, match=r"version 1 is END \(unloaded\); it has 5, 7"):
        first.predict(ONE)
    with pytest.raises(ModelNotFound, match="has no version 3"):
        client.model("pinned", version=3).predict(ONE)


def test_labels_stand_for_versions(broker: TestBroker, on_disk: dict[str, Versions], client: Client) -> None:
    """A label's version is served whatever the policy says; handles follow when the label moves."""
    stable, canary = client.model("labelled", label="stable"), client.model("labelled", "canary")
    on_disk["labelled"].add(2)
    reload(broker, "labelled", labels={"canary": 2})
    assert (version_of(stable), version_of(canary), version_of(client.model("labelled"))) == (1, 2, 2)
    wait_until(lambda: (stable.current_version, canary.current_version) == (1, 2), "the worker to be told")
    reload(broker, "labelled", labels={"stable": 2})
    assert version_of(stable) == 2
    assert states(broker, "labelled") == {1: "END", 2: "AVAILABLE"}
    outcome = reload(broker, "labelled", labels={"canary": 9})
    assert outcome["note"] == "label 'canary' cannot point at version 9, which is not served"
    assert version_of(canary) == 2
    with pytest.raises(ModelNotFound, match="has no label 'nobody'; it has 2 and the labels canary, stable"):
        client.model("labelled", label="nobody").predict(ONE)
    with pytest.raises(InvalidInput, match="not both"):
        client.model("labelled", version=1, label="stable")


def test_a_version_that_cannot_be_loaded_leaves_the_old_one(
    broker: TestBroker, on_disk: dict[str, Versions], client: Client
) -> None:
    """The reload says why, and so does the model's state; the next version takes over as usual."""
    on_disk["broken"].add(2, before="raise RuntimeError('no such weights')")
    outcome = reload(broker, "broken")
    assert (outcome["version"], outcome["loaded"], outcome["unloaded"]) == (1, [], [])
    assert "model 'broken' from" in outcome["failed"]["2"]
    assert "no such weights" in outcome["failed"]["2"]
    model = client.model("broken")
    assert version_of(model) == 1
    assert states(broker, "broken") == {1: "AVAILABLE", 2: "END"}
    with pytest.raises(ModelNotFound, match="version 2 is END .*no such weights"):
        client.model("broken", version=2).predict(ONE)
    on_disk["broken"].add(3, before="raise SystemExit('no licence')")
    assert "raised SystemExit: no licence" in reload(broker, "broken")["failed"]["3"]
    on_disk["broken"].add(4)
    assert reload(broker, "broken")["unloaded"] == [1]
    assert version_of(model) == 4


def test_a_model_can_be_rolled_back(broker: TestBroker, on_disk: dict[str, Versions], client: Client) -> None:
    """By asking for an older version, which then is kept; and by taking the newest away."""
    model = client.model("rolled")
    on_disk["rolled"].add(2)
    reload(broker, "rolled")
    assert version_of(model) == 2
    assert reload(broker, "rolled", versions=1)["version"] == 1
    assert version_of(model) == 1
    assert reload(broker, "rolled")["loaded"] == []
    assert reload(broker, "rolled", versions="latest")["version"] == 2
    on_disk["rolled"].remove(2)
    assert reload(broker, "rolled")["version"] == 1
    assert version_of(model) == 1


def test_an_emptied_folder_changes_nothing(
    broker: TestBroker, on_disk: dict[str, Versions], client: Client
) -> None:
    """What is served stays, and the reload says that there is nothing."""
    on_disk["emptied"].remove(1)
    assert "no version to serve" in reload(broker, "emptied")["note"]
    assert version_of(client.model("emptied")) == 1


def test_with_unload_first_calls_wait(
    broker: TestBroker, on_disk: dict[str, Versions], client: Client
) -> None:
    """There is a moment without any version; a call that comes in it waits, within its deadline."""
    model = client.model("making_room")
    stop = threading.Event()
    failed: list[BaseException] = []

    def call() -> None:
        while not stop.is_set():
            version_of(model)

    thread = threading.Thread(target=lambda: _noting(failed, call))
    thread.start()
    on_disk["making_room"].add(2, before="time.sleep(0.1)")
    outcome = reload(broker, "making_room")
    stop.set()
    thread.join()
    assert not failed
    assert (outcome["loaded"], outcome["unloaded"], version_of(model)) == ([2], [1], 2)
    on_disk["making_room"].add(3, before="raise RuntimeError('too large')")
    outcome = reload(broker, "making_room")
    assert (outcome["loaded"], outcome["version"]) == ([2], 2)
    assert version_of(model) == 2


def test_a_function_is_imported_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source without numbered versions counts its loads; one that fails leaves the old one."""
    module = folder / "reloaded_functions.py"
    text = (
        "from broker import signature\n"
        '@signature(inputs={"x": ("float32", [None])}, outputs={"y": ("float32", [None])})\n'
        "def f(x): return x + %d\n"
    )
    module.write_text(text % 1)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.syspath_prepend(str(folder))
    with (
        serving(models={"f": "reloaded_functions:f"}) as broker,
        worker_client.connect(broker.address) as client,
    ):
        model = client.model("f")
        assert (version_of(model), model.current_version) == (1, 1)
        module.write_text(text % 42)
        assert reload(broker, "f")["version"] == 2
        assert version_of(model) == 42
        wait_until(lambda: model.current_version == 2, "the worker to be told")
        module.write_text("def f(:")
        assert "SyntaxError" in reload(broker, "f")["failed"]["3"]
        assert version_of(model) == 42
        with pytest.raises(InvalidInput, match="no numbered versions"):
            reload(broker, "f", versions=1)


def test_clients_are_told_of_changes(
    broker: TestBroker, on_disk: dict[str, Versions], client: Client
) -> None:
    """`client.models()` shows states and causes as they are, without asking; errors tell the version."""
    assert client.models()["polled"].versions[1].state == "AVAILABLE"
    on_disk["polled"].add(2, before="raise RuntimeError('damaged')")
    reload(broker, "polled")
    wait_until(lambda: state_of(client, "polled", 2) == "END", "the news")
    told = client.models()["polled"]
    assert ("damaged" in told.versions[2].cause, told.version) == (True, 1)
    model = client.model("polled")
    for number in (1, 3):
        if number > 1:
            on_disk["polled"].add(number)
            reload(broker, "polled")
            wait_until(lambda: client.models()["polled"].version == number, "the news")  # noqa: B023
        with pytest.raises(
            InvalidInput, match=f"^model 'polled' version {number}, signature 'serving_default': "
        ):
            model.predict(np.zeros((1, 1), np.float32))


def state_of(client: Client, model: str, version: int) -> str | None:
    """As the client was last told."""
    told = client.models()[model].versions.get(version)
    return None if told is None else told.state


def test_what_cannot_be_reloaded_is_told(broker: TestBroker) -> None:
    """Unknown names, policies that are none, and labels that are none."""
    with pytest.raises(ModelNotFound, match="serves no model 'nobody'; it serves"):
        reload(broker, "nobody")
    for versions in ("newest", [], [-1], {"a": 1}, "latest:0", 1.5, True):
        with pytest.raises(InvalidInput, match="is not 'latest'"):
            reload(broker, "moving", versions=versions)
    for labels in ({"1": 2}, {"a": "b"}, ["a"], {"": 1}):
        with pytest.raises(InvalidInput, match="labels must be"):
            reload(broker, "moving", labels=labels)
    with pytest.raises(InvalidInput, match="models must be"):
        ask(broker.address, "reload", 60, models={"a": 1})


def test_commands(broker: TestBroker, on_disk: dict[str, Versions]) -> None:
    """`onesession reload` tells what it did, and fails where a version did; `onesession models` shows the tree."""
    on_disk["moving"].add(100)
    on_disk["moving"].add(101, before="raise RuntimeError('cut off')")

    def run(*words: str) -> tuple[int, str]:
        ended = CliRunner().invoke(main, [*words, "--name", broker.address])
        return ended.exit_code, ended.output

    status, said = run("reload", "moving", "--version", "100", "--label", "canary=100")
    assert (status, said.partition(";")[0]) == (0, "moving: version 100 is served")
    status, said = run("reload", "moving", "--version", "latest", "--json")
    assert status == 1
    assert "cut off" in json.loads(said)["moving"]["failed"]["101"]
    status, said = run("models")
    assert status == 0
    assert "version 100: AVAILABLE" in said
    assert "label canary" in said
    assert "version 101: END" in said
