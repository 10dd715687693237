"""`onesession try` as users start it; and the lines that it prints, run by Flask, FastAPI and Django."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from broker.cli import main
from tests import brokers
from tests.brokers import Gate, TestBroker, serving, wait_until
from tests.commands import commands
from tests.servers.running import place as server_place
from tests.servers.running import running

MODELS = "tests.process.try_models"
WRONG = 400
INVALID = 422  # FastAPI's own, for what is no object
NOTHING_IT_TAKES = (b"{}", b"[{}]", b"{", b"1", b'{"other": [1]}')
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "total": ({"x": [[1, 2, 3.5], [0, 0, 1]]}, {"y": [6.5, 1]}, {"x": [[1, 2]]}),
    "pair": (
        {"pixel values": [[1, 2], [3, 4]], "class": [3, 8]},
        {"score": [4.5, 11], "class": [4, 9]},
        {"pixel values": [[1, 2]], "class": [0.5]},  # no integer is made of it
    ),
    "shout": (
        {"text": ["one", "zwölf"]},
        {"loud": ["ONE", "ZWÖLF"], "table": [["ONE"], ["ZWÖLF"]], "length": [3, 6]},
        {"text": [1]},
    ),
    "turned": ({"z": ["1+2j", 3]}, {"w": ["(-2+1j)", "3j"]}, {"z": ["one"]}),
    "fixed": ({"x": [[1, 2, 3], [4, 5, 6]]}, {"y": [6, 15]}, {"x": [[1, 2, 3]]}),
}
"""Models by name: what is sent, what comes back, and what is refused."""


@functools.cache
def printed(model: str) -> str:
    """By the command as users start it, which has gone well."""
    with brokers.folder() as place, commands(place) as start:
        status, out, err = start("try", f"{model}={MODELS}:{model}").end()
        assert (status, err, os.listdir(place)) == (0, "", []), err
        return str(out)


def lines_for(framework: str, text: str) -> str:
    (found,) = re.findall(rf"^# --- {framework}.*?(?=^# --- |\Z)", text, re.MULTILINE | re.DOTALL)
    return str(found)


# -- what it shows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "signature", "sent", "answer"),
    [
        ("total", "(x: float32[?, 3]) -> (y: float32[?])", "(x: float32[1, 3])", "(y: float32[1])"),
        ("fixed", "(x: float32[2, 3]) -> (y: float32[2])", "(x: float32[2, 3])", "(y: float32[2])"),
        ("constant", "() -> (y: float32[2])", "()", "(y: float32[2])"),
    ],
)
def test_it_shows_the_signature_and_calls_it(model: str, signature: str, sent: str, answer: str) -> None:
    out = printed(model)
    assert f"{model}, version 1, from {MODELS}:{model}" in out
    assert f"serving_default{signature}" in " ".join(out.split())
    assert f"calling serving_default{sent}\nanswer {answer}\n" in out
    assert re.search(r"^first call \d[\w.]+s, second call \d[\w.]+s$", out, re.MULTILINE)


def test_the_name_may_be_left_out(start: Any) -> None:
    status, out, err = start("try", f"{MODELS}:total").end()
    assert status == 0, err
    name = f"{MODELS}:total".replace(":", "_")
    assert f"--model {name}={MODELS}:total -- gunicorn" in out
    assert f'.model("{name}")' in out


def test_what_changes_state_is_called_if_it_is_named(start: Any) -> None:
    """Twice then, as it says: the first call and the second."""
    status, out, err = start("try", f"counter={MODELS}:counter").end()
    assert (status, "calling" in out) == (0, False), err
    assert (
        "not called: serving_default is stateful (it changes state, as its function declares); to call it, name it: "
        "--signature serving_default" in out
    )
    assert "# --- Flask" in out
    status, out, err = start("try", f"counter={MODELS}:counter", "--signature", "serving_default").end()
    assert (status, "answer (runs: int64[1])" in out) == (0, True), err


def test_a_model_that_refuses_made_up_data_gets_an_example(start: Any, tmp_path: Path) -> None:
    """The lines for the app are printed all the same."""
    status, out, err = start("try", f"number={MODELS}:number").end()
    last = err.splitlines()[-1]
    assert (status, "# --- Flask" in out) == (1, True), err
    assert last.startswith("Error: model 'number' version 1, signature 'serving_default': ")
    assert last.endswith("; if that is because the data is made up, give it an example with --input")
    example = tmp_path / "example.json"
    example.write_text(json.dumps({"text": ["1.5"]}))
    status, out, err = start("try", f"number={MODELS}:number", "--input", str(example)).end()
    assert (status, "answer (number: float64[1])" in out) == (0, True), err


def test_what_nobody_can_make_up_is_not_called(start: Any) -> None:
    status, out, err = start("try", f"any={MODELS}:of_any_rank").end()
    assert status == 0, err
    assert (
        "not called: input 'x' may have any number of dimensions, which cannot be generated; give an example"
        in out
    )


# -- mistakes, and its end -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["m=/no/such/model", "m=no_such_module:f", f"m={MODELS}:nothing", "m="])
def test_a_wrong_model_is_told_as_serve_tells_it(start: Any, model: str) -> None:
    status, out, err = start("try", model).end()
    served = start("serve", "--model", model).end()
    assert (status, out) == (served[0], "")
    assert err.splitlines() == served[2].splitlines()[-1:]


def test_an_unknown_signature_is_told(start: Any) -> None:
    status, out, err = start("try", f"total={MODELS}:total", "--signature", "training").end()
    assert (status, out) == (1, "")
    assert err == "Error: model 'total' has no signature 'training'; it has serving_default\n"


def test_it_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder of its socket; processes and names are found by the fixture of all tests."""
    made: list[str] = []
    real = tempfile.mkdtemp

    def recorded(*arguments: Any, **options: Any) -> str:
        made.append(real(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", recorded)
    done = CliRunner().invoke(main, ["try", f"total={MODELS}:total"])
    assert done.exit_code == 0, done.output
    assert made
    assert not any(map(os.path.exists, made))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_is_interrupted_in_a_call(start: Any, place: Path, number: int, status: int) -> None:
    """However long the model still runs."""
    command = start("try", f"waits={MODELS}:waits")
    Gate(place).wait_for(1)
    (socket,) = sockets(command.process.pid)
    command.signal(number)
    found, _out, err = command.end()
    assert (found, "Traceback" in err) == (status, False), err
    assert not socket.parent.exists()


def test_nothing_is_left_of_a_broker_that_is_killed(start: Any, place: Path) -> None:
    """Nobody else will have its address, and clear it up; the fixture of all tests finds its names and locks."""
    command = start("try", f"waits={MODELS}:waits")
    Gate(place).wait_for(1)
    (socket,) = sockets(command.process.pid)
    (broker,) = psutil.Process(command.process.pid).children()
    broker.kill()
    status, _out, err = command.end()
    (line,) = err.splitlines()
    assert (status, line.startswith("Error: ")) == (1, True), err
    assert not socket.parent.exists()


def sockets(pid: int) -> set[Path]:
    """The brokers' that this process has started."""
    children = psutil.Process(pid).children(recursive=True)
    paths = {Path(each.laddr) for child in children for each in child.net_connections("unix") if each.laddr}
    return {path for path in paths if path.suffix == ".sock"}


def test_it_is_interrupted_while_it_loads(start: Any, place: Path) -> None:
    command = start("try", "slow=tests.process.slow_to_load:double")
    wait_until((place / "loading").exists, "the model's import")
    command.signal(signal.SIGINT)
    found, out, err = command.end()
    assert (found, out, "Traceback" in err) == (130, "", False), err


# -- the lines for an app --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    with serving(models={name: f"{MODELS}:{name}" for name in (*CASES, "constant")}) as broker:
        yield broker


@pytest.fixture
def pasted(broker: TestBroker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`pasted(framework, model)`: what its lines define, here."""
    monkeypatch.setenv("BROKER_ADDRESS", broker.address)
    spaces: list[dict[str, Any]] = []

    def paste(framework: str, model: str) -> dict[str, Any]:
        spaces.append({"__name__": "app"})
        exec(lines_for(framework, printed(model)), spaces[-1])
        return spaces[-1]

    yield paste
    for space in spaces:
        space["model"]._connection.close()


@pytest.mark.parametrize("model", CASES)
def test_flask(pasted: Any, model: str) -> None:
    pytest.importorskip("flask")
    sent, answer, wrong = CASES[model]
    client = pasted("Flask", model)["app"].test_client()
    assert client.post("/predict", json=sent).json == answer
    refused = client.post("/predict", json=wrong)
    assert (refused.status_code, f"model '{model}'" in refused.json["error"]) == (WRONG, True)
    for other in NOTHING_IT_TAKES:
        assert client.post("/predict", data=other, content_type="application/json").status_code == WRONG


def test_flask_without_inputs(pasted: Any) -> None:
    pytest.importorskip("flask")
    assert pasted("Flask", "constant")["app"].test_client().get("/predict").json == {"y": [1, 2]}


@pytest.mark.parametrize("model", CASES)
def test_django(pasted: Any, model: str) -> None:
    pytest.importorskip("django")
    from django.conf import settings
    from django.test import RequestFactory

    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["testserver"])
    sent, answer, wrong = CASES[model]
    view = pasted("Django", model)["predict"]

    def post(what: Any) -> Any:
        return view(RequestFactory().post("/predict", what, content_type="application/json"))

    assert json.loads(post(sent).content) == answer
    refused = post(wrong)
    assert (refused.status_code, f"model '{model}'" in json.loads(refused.content)["error"]) == (WRONG, True)
    for other in NOTHING_IT_TAKES:
        assert post(other).status_code == WRONG


@pytest.mark.parametrize("model", CASES)
def test_fastapi(broker: TestBroker, model: str) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    sent, answer, wrong = CASES[model]
    with server_place() as here:
        here.write("app.py", lines_for("FastAPI", printed(model)))
        command = ["uvicorn", "--port", "0", "app:app"]
        with running(here, command, BROKER_ADDRESS=broker.address) as server:
            assert posted(f"{server.url}/predict", sent) == (200, answer)
            status, refused = posted(f"{server.url}/predict", wrong)
            assert (status, f"model '{model}'" in refused["error"]) == (WRONG, True)
            for other in NOTHING_IT_TAKES:
                assert posted(f"{server.url}/predict", other)[0] in (WRONG, INVALID)
            server.process.terminate()
            server.wait_for_end()
            assert "Traceback" not in server.log()


def posted(url: str, sent: Any) -> tuple[int, Any]:
    data = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=brokers.PATIENCE_S) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
