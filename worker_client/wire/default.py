"""The default of an input that callers may leave out: it is sent with the signature, and workers fill it in."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker_client.wire.dtypes import STRING

MAX_BYTES = 16 << 10
"""Maximum size of a default: it is sent with its signature, and each worker has all signatures of all versions."""
_SHOWN = 8
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Default:
    """A tensor that can be compared and hashed. `content` holds its bytes, or a bytes object for each of its
    strings."""

    shape: tuple[int, ...]
    content: bytes | tuple[bytes, ...]

    @classmethod
    def of(cls, array: np.ndarray) -> Default:
        """The default with the value of `array`. Strings are bytes objects in an array of objects."""
        strings = array.dtype == STRING
        return cls(array.shape, tuple(array.ravel().tolist()) if strings else array.tobytes())

    @property
    def nbytes(self) -> int:
        return len(self.content) if isinstance(self.content, bytes) else sum(map(len, self.content))

    def array(self, dtype: np.dtype) -> np.ndarray:
        """The value, read-only. `dtype` is the input's."""
        if isinstance(self.content, bytes):
            return np.frombuffer(self.content, dtype).reshape(self.shape)
        made = np.empty(len(self.content), object)
        made[:] = self.content
        made = made.reshape(self.shape)
        made.flags.writeable = False
        return made

    def show(self, dtype: np.dtype) -> str:
        """The value as text, `2.0` or `[3, 4]`; `...` for a long one."""
        array = self.array(dtype)
        if array.size > _SHOWN:
            return "..."
        text = _plain(array) if array.ndim else _element(array[()])
        return text if len(text) <= _SHOWN_CHARACTERS else "..."

    def to_message(self) -> list[Any]:
        """The value as plain text, because reports about models are also printed as JSON."""
        if isinstance(self.content, bytes):
            return [list(self.shape), _encoded(self.content)]
        return [list(self.shape), [_encoded(each) for each in self.content]]

    @classmethod
    def from_message(cls, message: list[Any]) -> Default:
        shape, content = message
        if isinstance(content, str):
            return cls(tuple(shape), base64.b64decode(content))
        return cls(tuple(shape), tuple(map(base64.b64decode, content)))


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _plain(array: np.ndarray) -> str:
    parts = [_plain(each) if array.ndim > 1 else _element(each) for each in array]
    return f"[{', '.join(parts)}]"


def _element(value: Any) -> str:
    return repr(value.decode("utf-8", "replace")) if isinstance(value, bytes) else str(value)
