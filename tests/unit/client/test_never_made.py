"""Objects that a signal handler's exception leaves before their `__init__`: CPython finalizes them all the same."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest

from worker_client.ipc.semaphore import WaitableSemaphore
from worker_client.request import Request
from worker_client.system.descriptor import Descriptor, OwnSocket


@pytest.mark.parametrize("kind", [Request, WaitableSemaphore, Descriptor, OwnSocket])
def test_nothing_is_printed(kind: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: raised.append(repr(found.exc_value)))
    kind.__new__(kind)
    gc.collect()
    assert raised == []
