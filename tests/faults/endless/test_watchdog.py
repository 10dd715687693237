"""Runs that do not end, under every kind of parent: the guilty call fails, all others continue, nothing is left."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

import worker_client
from broker.config.settings import Settings
from broker.control_plane.query import ask
from broker.doctor.checks.runs import judge
from broker.doctor.finding import Severity
from broker.models.spec import ModelSpec
from broker.process import main as engine
from broker.server.server import Server
from tests.brokers import folder, serving, wait_until
from tests.commands import WAITER, commands
from tests.faults.endless.looping import ENDS_THE_PROCESS, HELD, NO_END
from tests.models import saved_models
from tests.process.models import SOURCES
from tests.servers.gunicorns import gunicorn
from worker_client import Client, ModelFailed

LIMIT_S = 1
PATIENCE_S = 60.0
MODULE = "tests.faults.endless.looping"
ROW = np.ones((1, 4), np.float32)

Sources = dict[str, str]
Parent = Callable[[Sources], AbstractContextManager[str]]


@contextlib.contextmanager
def supervise(models: Sources) -> Iterator[str]:
    with folder() as place, commands(place) as start:
        command = start("serve", "--supervise", "--drain-seconds", "5", *words(models))
        command.wait_for("serving")
        yield os.fspath(place / "b.sock")
        command.process.terminate()
        assert command.end()[0] == 0
        assert not list(place.glob("b.sock*"))


@contextlib.contextmanager
def run(models: Sources) -> Iterator[str]:
    with folder() as place, commands(place) as start:
        command = start("run", "--drain-seconds", "5", *words(models), "--", "python", "-c", WAITER)
        command.wait_for("ready")
        yield os.fspath(place / "b.sock")
        command.process.terminate()
        assert command.end()[0] == 40
        assert not list(place.glob("b.sock*"))


@contextlib.contextmanager
def under_gunicorn(models: Sources) -> Iterator[str]:
    specs = {name: {"source": source, "max_run_seconds": LIMIT_S} for name, source in models.items()}
    specs["tell"] = {"source": "tests.process.models:tell"}
    conf = f"""
from broker.integrations import gunicorn
gunicorn.serve(globals(), models={specs!r}, drain_seconds=5)
"""
    with gunicorn(conf=conf, workers=1) as server:
        server.ask(1)
        (socket,) = server.place.sockets()
        yield os.fspath(socket)


PARENTS: dict[str, Parent] = {"supervise": supervise, "run": run, "gunicorn": under_gunicorn}


def words(models: Sources) -> list[str]:
    named = [f"--model={name}={source}" for name, source in models.items()]
    return [*named, "--set", f"*.max_run_seconds={LIMIT_S}", "--no-tune"]


def functions(*names: str) -> Sources:
    return {name: f"{MODULE}:{name}" for name in names}


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A SavedModel with a loop in its graph."""
    path = tmp_path_factory.mktemp("loop") / "loop"
    saved_models.export({"loop": path})
    return os.fspath(path)


class Calls:
    """Calls of a model in a thread, one after the other, all of which must be answered, and rightly."""

    def __init__(self, address: str, model: str) -> None:
        self.errors: list[BaseException] = []
        self.answers = 0
        self.longest_s = 0.0
        self._address = address
        self._model = model
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._call)

    def __enter__(self) -> Calls:
        self._thread.start()
        wait_until(lambda: self.answers or self.errors, "the first answer")
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        assert not self.errors, self.errors
        print(f"{self._model}: {self.answers} answers, the longest took {self.longest_s:.1f} s")

    def wait_for_more(self) -> None:
        before = self.answers
        wait_until(
            lambda: self.answers > before + 1 or self.errors, f"more answers of {self._model}", PATIENCE_S
        )

    def _call(self) -> None:
        try:
            with worker_client.connect(self._address, timeout=PATIENCE_S) as client:
                model = client.model(self._model)
                while not self._stopped.wait(0.002):
                    start = time.monotonic()
                    np.testing.assert_array_equal(model.predict(ROW), ROW * 2)
                    self.longest_s = max(self.longest_s, time.monotonic() - start)
                    self.answers += 1
        except BaseException as error:
            self.errors.append(error)


def call(client: Client, model: str, value: float) -> np.ndarray:
    return np.asarray(client.model(model).predict(np.full((1, 4), value, np.float32)))


def assert_given_up(address: str, model: str, value: float) -> None:
    """The error of the endless call names the setting that ended it; the next call of that model is answered."""
    with worker_client.connect(address, timeout=PATIENCE_S) as client:
        with pytest.raises(ModelFailed, match="max_run_seconds"):
            call(client, model, value)
        np.testing.assert_array_equal(call(client, model, 2), np.full((1, 4), 4))


# -- a run without an end, under each parent -----------------------------------------------------------------------


@pytest.mark.timeout(240)
@pytest.mark.parametrize("parent", PARENTS)
def test_a_function_without_an_end(parent: str) -> None:
    """Light, heavy, and with the interpreter's lock held: then nothing in the process can notice, but its parent does,
    from outside. Its call gets ModelFailed; the process, which nothing else ends, is replaced; the others' calls are
    answered. One broker for all three, as its start takes longer than any of them."""
    models = {**functions("light", "heavy", "innocent", "innocent_heavy"), "held": f"{MODULE}:light"}
    with PARENTS[parent](models) as address, Calls(address, "innocent") as innocent:
        pids = [pid_of(address)]
        with Calls(address, "innocent_heavy") as beside:
            for model in ("light", "heavy"):
                assert_given_up(address, model, NO_END)
                innocent.wait_for_more()
                beside.wait_for_more()
                pids.append(pid_of(address))
        assert_given_up(address, "held", HELD)
        innocent.wait_for_more()
        assert len({*pids, pid_of(address)}) == 4


@pytest.mark.timeout(240)
@pytest.mark.parametrize("parent", PARENTS)
def test_a_graph_without_an_end(parent: str, loop: str) -> None:
    """Its call gets ModelFailed; the run is ended and the model loaded again, in the same process."""
    with (
        PARENTS[parent]({"loop": loop, **functions("innocent")}) as address,
        Calls(address, "innocent") as innocent,
    ):
        before = pid_of(address)
        assert_given_up(address, "loop", NO_END)
        innocent.wait_for_more()
        assert pid_of(address) == before


def pid_of(address: str) -> int:
    return int(Path(f"{address}.lock").read_text().split()[0])


def test_a_sessions_run_whose_process_is_ended_is_told_like_any_other(loop: str) -> None:
    """A session's run has the model's limit, and its worker knows the limit, even if the interpreter lock is held."""
    with (
        supervise({"loop": loop, **functions("light")}) as address,
        worker_client.connect(address, timeout=PATIENCE_S, retries=0) as client,
    ):
        run = client.session("loop").make_callable("PartitionedCall:0", ["serving_default_x:0"])
        np.testing.assert_array_equal(run(ROW), ROW * 2)
        with ThreadPoolExecutor(2) as pool:
            mine = pool.submit(run, ROW * NO_END)
            wait_until(lambda: in_flight(address), "the session's run")
            other = pool.submit(hold, address)
            with pytest.raises(ModelFailed, match=r"model 'loop' version 1, .*max_run_seconds"):
                mine.result()
            other.result()


def in_flight(address: str) -> int:
    return sum(worker["in_flight"] for worker in ask(address, "status")["status"]["workers"])


def hold(address: str) -> None:
    """Have the broker's interpreter locked by a run without an end."""
    with worker_client.connect(address, timeout=PATIENCE_S, retries=0) as client, pytest.raises(ModelFailed):
        call(client, "light", HELD)


def test_a_model_with_another_thread_does_without_one() -> None:
    """The process stays as long as the model has a thread that is not hung, and is replaced when it has none."""
    models = {"heavy": {"source": f"{MODULE}:heavy", "max_run_seconds": LIMIT_S, "max_concurrency": 2}}
    with serving(models=models, supervise=True) as broker:
        pid = broker.pid
        assert_given_up(broker.address, "heavy", NO_END)
        assert broker.pid == pid
        assert_given_up(broker.address, "heavy", NO_END)
        assert broker.next_pid(pid) != pid


def test_without_a_limit_a_run_may_take_for_ever() -> None:
    """With `max_run_seconds = 0` the run continues in the same process, and other models are answered."""
    models = {
        "gated": {"source": SOURCES["gated"], "max_run_seconds": 0},
        "light": {"source": f"{MODULE}:light", "max_run_seconds": LIMIT_S},
    }
    with (
        serving(models=models, supervise=True) as broker,
        worker_client.connect(broker.address, timeout=PATIENCE_S) as client,
    ):
        pid = broker.pid
        future = client.model("gated").submit({"number": np.array([1]), "x": np.ones(1, np.float32)})
        wait_until(lambda: broker.status()["long_runs"], "a run that is told to be long")
        time.sleep(LIMIT_S)
        np.testing.assert_array_equal(call(client, "light", 2), np.full((1, 4), 4))
        broker.gate.open(1)
        assert future.result(PATIENCE_S)["y"] == 2
        assert broker.pid == pid


# -- whose fault it was --------------------------------------------------------------------------------------------


def test_requests_joined_with_the_guilty_one_are_answered() -> None:
    """All requests of an endless batch are run again, one by one: the guilty one fails, the others get their
    answers."""
    with (
        supervise(functions("heavy")) as address,
        worker_client.connect(address, timeout=PATIENCE_S) as client,
    ):
        model = client.model("heavy")
        first = model.submit(ROW)  # while it runs, the others gather
        values = [1.0, NO_END, 3.0, 4.0]
        futures = [model.submit(np.full((1, 4), value, np.float32)) for value in values]
        first.result()
        for value, future in zip(values, futures):
            if value == NO_END:
                with pytest.raises(ModelFailed, match="max_run_seconds"):
                    future.result(PATIENCE_S)
            else:
                np.testing.assert_array_equal(future.result(PATIENCE_S), np.full((1, 4), 2 * value))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("way", ["predict", "submit"])
def test_a_run_beside_the_guilty_one_is_run_again(way: str) -> None:
    """A run that holds the interpreter's lock stops those of other models, which are past their limits as well when the
    process is ended for it: only the guilty call fails, as it does so again when it runs without them."""
    with (
        supervise(functions("innocent_slow", "light")) as address,
        worker_client.connect(address, timeout=PATIENCE_S) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        call(client, "light", 1)
        model = client.model("innocent_slow")
        model.predict(ROW)
        answer = pool.submit(model.predict, ROW) if way == "predict" else model.submit(ROW)
        wait_until(lambda: in_flight(address), "the innocent run")
        with pytest.raises(ModelFailed, match=r"model 'light'.*max_run_seconds"):
            call(client, "light", HELD)
        np.testing.assert_array_equal(answer.result(PATIENCE_S), ROW * 2)


@pytest.mark.parametrize("model", ["light", "heavy"])
def test_a_model_that_ends_the_process_is_set_aside(model: str) -> None:
    """After three deaths the broker serves without it; others' calls are never blamed; a reload brings it back."""
    models = functions(model, "innocent", "innocent_heavy")
    with supervise(models) as address, worker_client.connect(address, timeout=PATIENCE_S) as client:
        with Calls(address, "innocent"), Calls(address, "innocent_heavy"):
            for said in ("perhaps the request", f"onesession reload {model}", "END"):
                with pytest.raises(worker_client.BrokerError, match=said):
                    call(client, model, ENDS_THE_PROCESS)
        (version,) = ask(address, "models")["models"][model]["versions"]
        assert version["state"] == "END"
        assert "3 times" in version["cause"]
        assert ask(address, "reload", PATIENCE_S, models=[model])["models"][model]["failed"] == {}
        np.testing.assert_array_equal(call(client, model, 2), np.full((1, 4), 4))


def test_whoever_is_killed_from_outside_is_not_blamed() -> None:
    """SIGKILL comes from an operator, a test, a container's end: a model that happens to run each time stays in
    service, and its calls are run again."""
    with (
        serving("gated", supervise=True) as broker,
        worker_client.connect(broker.address, timeout=PATIENCE_S, retries=9) as client,
    ):
        future = client.model("gated").submit({"number": np.array([1]), "x": np.ones(1, np.float32)})
        for death in range(1, 5):
            broker.gate.wait_for(1, death)
            broker.next_pid(broker.kill_engine())
        broker.gate.wait_for(1, 5)
        broker.gate.open(1)
        assert future.result(PATIENCE_S)["y"] == [2]
        (version,) = ask(broker.address, "models")["models"]["gated"]["versions"]
        assert version["state"] == "AVAILABLE"


def test_a_process_that_ends_itself_hangs_up_before_its_names_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is just attaching finds no names then, and must not be answered that the broker is alive."""
    order: list[object] = []
    monkeypatch.setattr(engine, "_end_process", order.append)
    with folder() as place:
        server = Server(
            Settings(models=tuple(ModelSpec.coerce_all(functions("innocent"))), address=f"{place}/b.sock")
        )
        server.start()
        release = server.address_lock.release

        def release_when_silent() -> None:
            order.extend(each.name for each in threading.enumerate() if each.name == "onesession-control")
            release()

        monkeypatch.setattr(server.address_lock, "release", release_when_silent)
        engine._end_at_once(server)
        monkeypatch.setattr(server.address_lock, "release", lambda: None)
        server.stop()
    assert order == [1]


# -- what else waits for a run -------------------------------------------------------------------------------------


def test_a_reload_does_not_wait_for_a_run_without_an_end() -> None:
    """It returns when the new version serves, and says what still drains; so does that of another model. A run without
    a limit goes on meanwhile, `status` names it, and a polite stop has an end all the same."""
    models = {
        "heavy": {"source": f"{MODULE}:heavy", "max_run_seconds": 0},
        "innocent": f"{MODULE}:innocent",
    }
    with (
        serving(models=models, drain_seconds=1) as broker,
        worker_client.connect(broker.address, timeout=PATIENCE_S, retries=0) as client,
    ):
        endless = client.model("heavy").submit(np.full((1, 4), NO_END, np.float32))
        wait_until(lambda: broker.status()["long_runs"], "a run that is told to be long")
        (run,) = broker.status()["long_runs"]
        assert (run["model"], run["light"], run["limit_seconds"]) == ("heavy", False, 0)
        assert judge([run]).level is Severity.WARNING
        found = ask(broker.address, "reload", PATIENCE_S, models=["heavy"])["models"]["heavy"]
        assert (found["loaded"], found["draining"]) == ([2], [1])
        np.testing.assert_array_equal(call(client, "heavy", 2), np.full((1, 4), 4))
        found = ask(broker.address, "reload", PATIENCE_S, models=["innocent"])["models"]["innocent"]
        assert (found["loaded"], found["unloaded"]) == ([2], [1])
        broker.stop()
        assert isinstance(endless.exception(PATIENCE_S), worker_client.BrokerUnavailable)


@pytest.mark.parametrize("value", [NO_END, HELD])
def test_the_end_of_a_hung_light_model_is_bounded(value: float) -> None:
    """A stop waits for `drain_seconds` at most, even if the intake thread itself runs the model."""
    models = {"light": {"source": f"{MODULE}:light", "max_run_seconds": 0}}
    with (
        serving(models=models, drain_seconds=0.5, supervise=True) as broker,
        worker_client.connect(broker.address, timeout=PATIENCE_S, retries=0) as client,
    ):
        endless = client.model("light").submit(np.full((1, 4), value, np.float32))
        wait_until(lambda: endless.running() or broker.names(), "the run")
        broker.stop()
        assert isinstance(endless.exception(PATIENCE_S), worker_client.BrokerUnavailable)
