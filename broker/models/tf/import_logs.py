"""Drops a library's start-up messages from stderr, and nothing else."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from broker.models.tf.devices import has_gpu

_CHATTER = re.compile(
    rb"""WARNING:\ All\ log\ messages\ before\ absl::InitializeLog
      | I\d{4}\ [\d:.]+\s+\d+\ \S+\]                              # absl: I0000 00:00:17.15 6135 port.cc:153]
      | \d{4}-\d\d-\d\d\ [\d:.]+:\ I\                             # before 2.19: 2024-08-10 09:16:11.56: I
      | .*Unable\ to\ register\ cu(FFT|DNN|BLAS)\ factory         # said by every GPU build, of no consequence
      | .*computation_placer\ already\ registered
      | .*Could\ not\ find\ (cuda\ drivers|TensorRT)
      | .*failed\ call\ to\ cuInit                               # of a GPU build's first session, where there is no GPU
      | To\ enable\ the\ following\ instructions""",
    re.VERBOSE,
)


HARMLESS_THREAD = "onesession-start"
"""The name of our thread that only watches and logs."""
XLA_FLAGS = "--tf_xla_cpu_global_jit"
_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_level_is_ours = False


@contextmanager
def tensorflow_import() -> Iterator[None]:
    """Prepare the first import of TensorFlow in the block: set the environment that the broker needs, and drop start-up
    messages.

    Does nothing if the process has imported TensorFlow already, or has set the log level itself.
    """
    global _level_is_ours
    first = "tensorflow" not in sys.modules
    if first and _LEVEL not in os.environ:
        os.environ[_LEVEL] = "2"
        _level_is_ours = True
    # Without this the first session of the process fixes the intra-op threads of all later ones (TensorFlow's
    # local_device.cc: one global pool). Read once, when the first session is made.
    os.environ.setdefault("TF_OVERRIDE_GLOBAL_THREADPOOL", "1")
    # Lets sessions with `xla` also compile ops of the CPU; other sessions are not affected. Read with the first graph.
    os.environ.setdefault("TF_XLA_FLAGS", XLA_FLAGS)
    with import_chatter_dropped(wanted=first and _level_is_ours):
        yield


@contextmanager
def foreign_session() -> Iterator[None]:
    """Drop the message of a missing GPU while the block creates a session that we do not configure."""
    with tensorflow_import(), import_chatter_dropped(wanted=_level_is_ours and not has_gpu()):
        yield


@contextmanager
def import_chatter_dropped(*, wanted: bool) -> Iterator[None]:
    """Hold back the output to descriptor 2, and pass on everything except start-up messages at the end.

    TensorFlow 2.19 to 2.21 log while their libraries are loaded, before they look at TF_CPP_MIN_LOG_LEVEL. Used only if
    this thread is the only one: another thread could fork, and the child's stderr would be our buffer.
    """
    if not wanted or _others_may_fork() or not hasattr(os, "memfd_create"):
        yield
        return
    global _held
    try:
        held = _held = _HeldBack()
    except OSError:  # no descriptors; a seccomp filter
        yield
        return
    try:
        yield
    finally:
        held.let_through()
        _held = None


def let_through() -> None:
    """Pass on the output that is held back, and all further output, because this import takes too long. Called on any
    thread."""
    if (held := _held) is not None:
        held.let_through()


class _HeldBack:
    """Replaces descriptor 2 by a buffer until `let_through`."""

    def __init__(self) -> None:
        sys.stderr.flush()
        self._lock = threading.Lock()
        self._buffer = os.memfd_create("stderr", os.MFD_CLOEXEC)
        self._stderr = os.dup(2)
        os.dup2(self._buffer, 2)

    def let_through(self) -> None:
        """Restore descriptor 2. Idempotent."""
        with self._lock:
            buffer, self._buffer = self._buffer, -1
            if buffer < 0:
                return
            sys.stderr.flush()
            os.dup2(self._stderr, 2)
            os.close(self._stderr)
            _pass_on(buffer)
            os.close(buffer)


_held: _HeldBack | None = None


def _others_may_fork() -> bool:
    ours = threading.current_thread()
    return any(each is not ours and each.name != HARMLESS_THREAD for each in threading.enumerate())


def _pass_on(buffer: int) -> None:
    os.lseek(buffer, 0, os.SEEK_SET)
    with open(buffer, "rb", closefd=False) as held:
        for line in held:
            if not _CHATTER.match(line):
                os.write(2, line)
