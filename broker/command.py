"""The commands `onesession` and `broker`, which are one program: the code that runs before any extra is imported."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType

_OF_EXTRAS = {"click", "rich", "prometheus_client", "tomli", "tomlkit"}
_OUTPUT_REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
_INTERRUPTED = 128 + signal.SIGINT


def main() -> None:
    """Run the command with the arguments of this process. Exits with its status."""
    try:
        with _ended_by_ctrl_c():
            program = _program()
        program()
    except KeyboardInterrupt:  # just before or after the program itself
        sys.exit(_INTERRUPTED)
    except OSError as error:
        if error.filename is not None or error.errno not in _OUTPUT_REFUSED:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is still buffered
        sys.exit(f"Error: the output cannot be written: {error.strerror}")


@contextlib.contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """Make Ctrl-C end the process immediately, without an exception: imported libraries catch one, or print it and
    continue. No work has begun that would need cleaning up."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, as under nohup
        yield
        return
    signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(_INTERRUPTED)


def _program() -> Callable[[], object]:
    from worker_client.system.linux import check_linux
    from worker_client.wire.errors import BrokerUnavailable
    from worker_client.wire.version import __version__

    if sys.argv[1:] == ["--version"]:
        return lambda: print(f"onesession, version {__version__}")  # noqa: T201 - click comes with an extra
    try:
        check_linux("This command")
    except BrokerUnavailable as error:
        sys.exit(f"Error: {error}")
    try:
        from broker.cli import main as program
    except ModuleNotFoundError as error:
        if error.name not in _OF_EXTRAS:
            raise
        sys.exit(
            f"Error: this command needs {error.name}, which is not installed: pip install "
            "'onesession[tensorflow]' (or "
            "[tensorflow-cpu], or [broker] where no model needs TensorFlow)"
        )
    return program
