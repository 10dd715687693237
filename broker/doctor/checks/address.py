"""The socket's directory, and whether a broker of our version answers at the address."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from broker.control_plane.address_lock import CHECK_SECONDS
from broker.control_plane.locks import holder as lock_holder
from broker.control_plane.locks import note_at
from broker.control_plane.query import ask
from broker.doctor.finding import Finding, ok, problem, warning
from broker.doctor.target import Target
from worker_client.wire.address import VARIABLE, runtime_directory
from worker_client.wire.errors import BrokerError, BrokerUnavailable
from worker_client.wire.layout import PROTOCOL

ANSWER_SECONDS = 5.0
_START = "start one: onesession serve --model NAME=PATH, or onesession run --model NAME=PATH -- COMMAND"


def check_directory(path: Path) -> Finding:
    """Whether a broker can create its socket here, and other users cannot replace it."""
    check, directory, uid = "socket directory", path.parent, os.geteuid()
    elsewhere = f"or give --name the path of a socket elsewhere, and {VARIABLE} the same"
    try:
        found = directory.stat()
    except FileNotFoundError:
        if directory == runtime_directory() and os.access(directory.parent, os.W_OK | os.X_OK):
            return ok(check, f"{directory} will be created by the broker")
        return problem(check, f"{directory} does not exist", f"mkdir -m 700 {directory}, {elsewhere}")
    except OSError as error:
        return problem(check, f"{directory}: {error.strerror}", f"let uid {uid} enter it, {elsewhere}")
    mode = stat.S_IMODE(found.st_mode)
    owned = f"{directory} belongs to uid {found.st_uid}, mode {mode:04o}"
    if not stat.S_ISDIR(found.st_mode):
        return problem(check, f"{directory} is not a directory", f"remove it, {elsewhere}")
    if not os.access(directory, os.X_OK):
        return problem(
            check,
            f"{owned}: uid {uid} may not enter it",
            "run workers as the broker's user, or the broker as root with --allow-uid or --allow-gid",
        )
    if mode & 0o022 and not mode & stat.S_ISVTX:
        return problem(
            check,
            f"{owned}: other users can replace the broker's socket by their own",
            f"chmod go-w {directory}",
        )
    if mode & 0o022 and directory != runtime_directory():
        return warning(
            check,
            f"{owned}: other users can take the address before the broker does",
            f"use a directory of your own (mkdir -m 700), {elsewhere}",
        )
    return ok(check, owned)


def check_broker(path: Path) -> tuple[Finding, Target]:
    """Whether a broker answers at the address; the other checks examine that broker."""
    check = "broker"
    try:
        status = ask(os.fspath(path), "status", ANSWER_SECONDS)["status"]
        models = ask(os.fspath(path), "models", ANSWER_SECONDS)["models"]
    except BrokerUnavailable as error:
        return _silent(check, path, str(error)), Target(path)
    except BrokerError as error:
        advice = "install the same version of onesession for broker and workers, and restart the broker"
        return problem(
            check, f"what answers at {path} is not a broker of this version: {error}", advice
        ), Target(path)
    served = ", ".join(models) or "no model"
    return (
        ok(check, f"pid {status['pid']} at {path} serves {served}, protocol {PROTOCOL}"),
        Target(path, status, models),
    )


def _silent(check: str, path: Path, error: str) -> Finding:
    if path.exists() and not path.is_socket():
        return problem(
            check,
            f"{path} is a file, not a socket",
            f"move it away, or choose another address ({VARIABLE}, --name)",
        )
    holder, note = lock_holder(path), note_at(path)
    if holder is not None and note is not None and note.loading:
        return warning(
            check, f"pid {holder} at {path} is still loading its models", "wait until it logs that it serves"
        )
    if holder is not None and not path.exists():
        return problem(
            check,
            f"pid {holder} serves {path}, but its socket has been removed: no worker can attach",
            f"the broker creates it again in about {CHECK_SECONDS:g} s; exclude {path.parent} from cleaners "
            "of temporary "
            "files",
        )
    if holder is not None:
        return problem(
            check,
            f"pid {holder} holds {path} but does not answer",
            f"see what it does (py-spy dump --pid {holder}), and restart it",
        )
    if path.exists() and os.access(path, os.W_OK):
        return warning(
            check, f"the broker at {path} has died and left its socket", f"{_START}: that removes the socket"
        )
    if path.exists():
        return problem(
            check,
            f"uid {os.geteuid()} may not use {path}",
            "run workers as the broker's user, or the broker as root with --allow-uid or --allow-gid",
        )
    reason = error.partition("(")[2].partition(")")[0] or error
    return warning(check, f"none at {path}: {reason}", f"{_START}; or point {VARIABLE} at it")
