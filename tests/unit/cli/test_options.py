"""What the options of `onesession serve` and `onesession run` mean in Python."""

from __future__ import annotations

import sys

import click
import pytest
from click.testing import CliRunner, Result

from broker.cli.options import settings_options
from broker.config.settings import TUNE_VARIABLE, Settings
from broker.models.spec import ModelSpec

made: list[Settings] = []


@click.command()
@settings_options
def command(settings: Settings) -> None:
    made.append(settings)


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))  # the command adds the folder we stand in
    monkeypatch.delenv(TUNE_VARIABLE, raising=False)
    made.clear()


def invoke(*words: str) -> Result:
    return CliRunner().invoke(command, ["--model", "m=models/m", *words])


def settings(*words: str) -> Settings:
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    return made[-1]


def test_without_options_all_is_as_by_default():
    """Without options all settings have their defaults, except the log level, so that a user who starts a
    broker sees what it does."""
    found = settings("--name", "here")
    assert found == Settings(models=(ModelSpec("m", "models/m"),), address=found.address, log_level="info")
    assert found.address.endswith("here.sock") or "here" in found.address


@pytest.mark.parametrize(
    ("words", "variable", "tune"),
    [
        ([], None, "auto"),
        ([], "off", "off"),
        ([], "remembered", "remembered"),
        (["--tune"], "off", "auto"),
        (["--no-tune"], None, "off"),
        (["--no-tune"], "auto", "off"),
    ],
)
def test_tuning(monkeypatch, words: list[str], variable: str | None, tune: str):
    """The option goes before the environment."""
    if variable is not None:
        monkeypatch.setenv(TUNE_VARIABLE, variable)
    assert settings(*words).tune == tune


def test_settings_of_models_and_of_the_broker():
    """`--set` reaches the model, the others the broker."""
    found = settings(
        "--set", "m.max_delay=auto", "--set", "*.batching=false", "--onednn", "off", "--tune-seconds", "3"
    )
    assert (found.models[0].max_delay, found.models[0].batching) == ("auto", "off")
    assert (found.onednn, found.tune_seconds) == ("off", 3.0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "x.batching=false"], "there is no model 'x'; there is m"),
        (["--set", "m.batching=maybe"], 'model \'m\': batching must be "auto", "on" or "off", got \'maybe\''),
        (["--tune-seconds", "-1"], "tune_seconds must be a number from 0"),
        (["--onednn", "maybe"], "'maybe' is not one of"),
        (["--model", "m=other"], "two models are called 'm'"),
    ],
)
def test_what_is_wrong_is_told(words: list[str], said: str):
    """In one line, without a traceback."""
    result = invoke(*words)
    assert result.exit_code != 0
    assert said in result.output
    assert made == []
