"""The Python that processes are started with, where sys.executable is none."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator

import pytest

from worker_client import BrokerError
from worker_client.interpreter.executable import python


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What is found is remembered."""
    python.cache_clear()
    yield
    python.cache_clear()


def test_the_one_that_runs() -> None:
    """As a rule it is sys.executable, and nothing is tried."""
    assert python() == sys.executable


@pytest.mark.parametrize("executable", ["/usr/bin/uwsgi", "", None])
def test_where_the_program_is_none(executable: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the same version with the same packages is found beside its libraries."""
    monkeypatch.setattr(sys, "executable", executable)
    monkeypatch.setattr(sys, "_base_executable", executable, raising=False)
    found = python()
    told = subprocess.run(
        [found, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout.strip() in (sys.prefix, sys.base_prefix)
    assert os.path.basename(found).startswith("python")


def test_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that was frozen has no Python: the message names the program, and the other way to start a broker."""
    monkeypatch.setattr(sys, "executable", "/opt/app/python")
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "_base_executable", "", raising=False)
    for prefix in ("prefix", "exec_prefix", "base_prefix"):
        monkeypatch.setattr(sys, prefix, "/nowhere")
    monkeypatch.setattr(sysconfig, "get_config_var", lambda _: None)
    with pytest.raises(
        BrokerError, match=r"this program is /opt/app/python, and none of .*onesession run --model"
    ):
        python()
