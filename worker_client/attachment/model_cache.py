"""The models that the broker serves, as it last reported them. It reports them when this process attaches, and at every
change.

watcher thread: "models" message --> update --+--> handles whose model changed bind anew at their next call
caller: a number that stands for nothing,     |    (so a call that nothing changed for never asks)
        a name that is unknown ---------------+
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, Protocol

from worker_client.attachment.metadata import ModelInfo, models_of

Models = Mapping[str, ModelInfo]


class BoundHandle(Protocol):
    """What is bound to numbers of the model cache."""

    def models_changed(self, before: Models, now: Models) -> None: ...

    def unbind(self) -> None: ...


class ModelCache:
    """Of one channel. Any thread. No lock: the watcher is a thread also where gevent has patched all locks."""

    def __init__(self, message: Mapping[str, Any]) -> None:
        self.models: Models = models_of(message)
        self.updates = 0
        self.stale = False
        """A number turned out to be out of date, or a name to be unknown: the next one to bind asks the broker."""
        self._handles: dict[int, weakref.ref[BoundHandle]] = {}

    def __repr__(self) -> str:
        return f"<ModelCache of {len(self.models)} models, {self.updates} updates>"

    def update(self, message: Mapping[str, Any]) -> None:
        before, self.models = self.models, models_of(message)
        self.updates += 1
        self.stale = False
        for handle in self._there():
            handle.models_changed(before, self.models)

    def expire(self) -> None:
        """A request was told that its number stands for nothing any more."""
        self.stale = True
        for handle in self._there():
            handle.unbind()

    def enter(self, handle: BoundHandle, updates: int) -> bool:
        """Have the handle told of changes from now on. False if there was one since `updates`: bind once more."""
        key = id(handle)
        if key not in self._handles:
            self._handles[key] = weakref.ref(handle, lambda _: self._handles.pop(key, None))
        return self.updates == updates and not self.stale

    def _there(self) -> list[BoundHandle]:
        return [handle for reference in list(self._handles.values()) if (handle := reference()) is not None]
