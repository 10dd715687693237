"""Mistakes that users make at the first line they write: each is one line with what is wrong and what to write."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from broker import Broker
from broker.cli import main
from broker.counters.counted import counted
from broker.integrations import gunicorn
from worker_client import InvalidInput, connect

MODELS = 'write models={"digits": "models/digits"}'


@pytest.mark.parametrize("models", ["models/digits", ["models/digits"], 3, [("digits", "models/digits")]])
def test_models_are_a_dict(models: Any) -> None:
    with pytest.raises(InvalidInput) as told:
        Broker(models=models)
    assert MODELS in str(told.value)


def test_an_option_that_does_not_exist() -> None:
    """In each place where options are keywords."""
    meant = "a broker has no setting 'max_slot'; did you mean 'max_slots'?"
    with pytest.raises(InvalidInput) as told:
        Broker(models={}, max_slot=3)
    assert str(told.value) == meant
    with pytest.raises(InvalidInput) as told:
        gunicorn.serve({}, models={}, max_slot=3)
    assert str(told.value) == meant
    result = CliRunner().invoke(main, ["serve", "--model", "m=m:f", "--set", "m.max_batchsize=3"])
    assert "there is no setting 'max_batchsize'; did you mean 'max_batch_size'?" in result.output
    assert result.exit_code == 2


def test_gunicorn_without_its_names() -> None:
    for given in ((), ({"digits": "models/digits"}.items(),)):
        with pytest.raises(InvalidInput, match=r"write gunicorn.serve\(globals\(\), "):
            gunicorn.serve(*given, models={"digits": "models/digits"})


def twice(x: Any) -> Any:
    return x


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            lambda: Broker({}, name=3),
            'a broker address must be a name such as "default" or the path of a socket, got 3',
        ),
        (lambda: connect(b"here"), "a broker address must be a name such as \"default\" .* got b'here'"),
        (lambda: Broker({}, supervise="no"), "supervise must be True or False, got 'no'"),
        (
            lambda: Broker({}, adopted=3),
            r"adopted must be models of this process such as \[adopt.keras\(.* got 3",
        ),
        (
            lambda: Broker({}, adopted=["m"]),
            "each of adopted must be models of this process such as .* got 'm'",
        ),
        (lambda: Broker({"m": 3}), "model 'm': expected a path, .* got int 3$"),
        (
            lambda: Broker({"m": twice}),
            "model 'm': .* is not a callable with a signature; .* @broker.signature",
        ),
        (lambda: Broker.from_config(3), 'a configuration is the path of a file such as "broker.toml", got 3'),
        (lambda: gunicorn.serve({}, config=3), "a configuration is the path of a file .* got 3"),
        (
            lambda: gunicorn.serve({}, {"m": twice}),
            f"got function .*; write models={{'m': '{__name__}:twice'}}",
        ),
        (
            lambda: Broker({}).run_workers(3, 2),
            r"the function .* got 3; write run_workers\(work, processes=4\)",
        ),
        (lambda: Broker({}).run_workers(twice, "2"), "processes must be an integer from 0 to .* got '2'"),
    ],
)
def test_an_argument_of_another_kind(make: Any, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        make()


@pytest.mark.parametrize("name", [3, "", None, b"digits"])
def test_a_model_has_a_name(name: Any) -> None:
    client = connect("/tmp/nobody/b.sock")
    for make in (client.model, client.session):
        with pytest.raises(InvalidInput, match="a model's name must be a string such as 'digits'"):
            make(name)


@pytest.mark.parametrize("timeout", ["5", float("nan"), [5]])
def test_the_timeout_of_a_call(timeout: Any) -> None:
    """It is refused before anything is asked of a broker."""
    model = connect("/tmp/nobody/b.sock").model("digits")
    for call in (model.predict, model.submit):
        with pytest.raises(InvalidInput, match="a call's timeout must be a number of seconds, got "):
            call([1.0], timeout=timeout)


def test_the_file_of_a_trace_is_tried_before_it_is_recorded(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["trace", "-o", os.fspath(tmp_path / "nowhere" / "trace.json")])
    assert result.exit_code == 2
    assert f"there is no folder '{tmp_path}/nowhere' that this user may write to" in result.output.replace(
        "\n", " "
    )


@pytest.mark.parametrize("command", ["check", "show"])
def test_the_usual_file_is_not_there(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["config", command])
    assert result.exit_code == 2
    assert "no FILE was given, and there is no broker.toml in this folder" in result.output


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    """As shells have it, without a traceback."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["broker.cli.status"], "ask", interrupted)
    result = CliRunner().invoke(main, ["status"])
    assert result.exit_code == 130
    assert result.output.strip() == ""


def test_one_of_a_kind() -> None:
    assert [counted(number, "worker") for number in (0, 1, 2)] == ["0 workers", "1 worker", "2 workers"]
