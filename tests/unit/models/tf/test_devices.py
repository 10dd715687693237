"""Which GPUs a process may see, and what models must agree on."""

from __future__ import annotations

import os
import sys

import pytest

from broker.config.settings import Settings
from broker.models.spec import ModelSpec
from broker.models.tf import devices
from worker_client.wire.errors import InvalidInput


@pytest.mark.parametrize(("given", "found"), [("0, 1", "0,1"), ("none", "-1"), ("GPU-8b4e", "GPU-8b4e")])
def test_the_environment_says_what_may_be_seen(monkeypatch, given, found):
    """As CUDA reads it, before TensorFlow does."""
    monkeypatch.setenv(devices.VARIABLE, "7")
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    devices.show_only(given)
    assert os.environ[devices.VARIABLE] == found


def test_nothing_said_changes_nothing(monkeypatch):
    """The environment is then the user's word."""
    monkeypatch.setenv(devices.VARIABLE, "7")
    devices.show_only(None)
    assert os.environ[devices.VARIABLE] == "7"


def test_too_late(monkeypatch):
    """A process that has TensorFlow has looked, unless it sees those already."""
    monkeypatch.setitem(sys.modules, "tensorflow", sys)
    monkeypatch.setenv(devices.VARIABLE, "0")
    devices.show_only("0")
    with pytest.raises(InvalidInput, match="visible_devices='1' comes too late"):
        devices.show_only("1")


def test_none_that_may_be_seen_are_none(monkeypatch):
    """Whatever the machine has."""
    monkeypatch.setenv(devices.VARIABLE, "-1")
    assert not devices.has_gpu()


@pytest.mark.parametrize("value", ["", "a", "0,", "0;1", 0])
def test_what_is_no_list_of_devices(value):
    """The error shows the form."""
    with pytest.raises(InvalidInput, match="visible_devices must be GPUs such as '0,1', or 'none', got"):
        Settings(models=(), visible_devices=value)


@pytest.mark.parametrize(
    "settings", [{"gpu_memory_fraction": 0.5}, {"gpu_memory_growth": False}], ids=["fraction", "growth"]
)
def test_models_must_agree_on_a_gpus_memory(settings):
    """As TensorFlow divides it once for a process; functions have no part in it."""
    one, function = ModelSpec("one", "models/one"), ModelSpec("function", "broker.models.python.echo:echo")
    with pytest.raises(
        InvalidInput, match="holds for the whole process: models 'one' and 'other' cannot have"
    ):
        Settings(models=(one, ModelSpec("other", "models/other", **settings)))
    Settings(models=(ModelSpec("other", "models/other", **settings), function))
