"""Interpreter settings that a load changes, and that it restores."""

from __future__ import annotations

import gc
import sys

import pytest

from broker.own_process.interpreter import SWITCH_SECONDS, low_switch_interval


def test_switches_are_quick_and_nothing_is_collected() -> None:
    """While a model is loaded; afterwards all is as it was, also if the load has failed."""
    before = sys.getswitchinterval()
    during = []

    def load() -> None:
        with low_switch_interval():
            during.extend([sys.getswitchinterval(), gc.isenabled()])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        load()
    assert during == [pytest.approx(SWITCH_SECONDS), False]
    assert (sys.getswitchinterval(), gc.isenabled()) == (before, True)
    gc.disable()
    try:
        with low_switch_interval():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
