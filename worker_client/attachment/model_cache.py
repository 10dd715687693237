"""The models that the broker serves, as it last reported them. It reports them when this process attaches, and at every
change.

watcher thread: "models" message --> update --+--> handles whose model changed bind again at their next call
caller: a signature number no longer valid,   |    (so a call whose model did not change never asks)
        an unknown name ----------------------+
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, Protocol

from worker_client.attachment.metadata import ModelInfo, models_of

Models = Mapping[str, ModelInfo]


class BoundHandle(Protocol):
    """A handle that is bound to signature numbers of the model cache."""

    def models_changed(self, before: Models, now: Models) -> None: ...

    def unbind(self) -> None: ...


class ModelCache:
    """The models known to one channel. Any thread may call. It has no lock, because gevent may have patched all locks,
    and the watcher uses it as well."""

    def __init__(self, message: Mapping[str, Any]) -> None:
        self.models: Models = models_of(message)
        self.updates = 0
        self.stale = False
        """A number turned out to be out of date, or a name to be unknown: the next handle that binds asks the
        broker."""
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
        """Unbind all handles, because the broker reported that a signature number is no longer valid."""
        self.stale = True
        for handle in self._there():
            handle.unbind()

    def enter(self, handle: BoundHandle, updates: int) -> bool:
        """Notify the handle of changes from now on. False if there was a change since `updates`: bind again."""
        key = id(handle)
        if key not in self._handles:
            self._handles[key] = weakref.ref(handle, lambda _: self._handles.pop(key, None))
        return self.updates == updates and not self.stale

    def _there(self) -> list[BoundHandle]:
        return [handle for reference in list(self._handles.values()) if (handle := reference()) is not None]
