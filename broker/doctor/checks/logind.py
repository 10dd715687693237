"""Checks RemoveIPC: systemd's logind removes a user's names in /dev/shm at logout, also those of a running service."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from broker.doctor.finding import Finding, ok, warning
from broker.doctor.target import Target

_FOLDERS = ("/usr/lib/systemd", "/usr/local/lib/systemd", "/run/systemd", "/etc/systemd")
_LAST_SYSTEM_UID = 999  # logind leaves the IPC of system users alone


def remove_ipc(texts: Iterable[str]) -> bool:
    """The value of RemoveIPC in logind.conf and its drop-ins, of which the last one counts; the default is yes."""
    value = "yes"
    for text in texts:
        for line in text.splitlines():
            if match := re.fullmatch(r"\s*RemoveIPC\s*=\s*(\S*)\s*", line):
                value = match[1] or "yes"
    return value.lower() in ("yes", "true", "on", "1", "y", "t")


def judge(removes: bool, user: str, uid: int, lingers: bool) -> Finding:
    check = "RemoveIPC"
    if not removes:
        return ok(check, "RemoveIPC=no")
    if uid <= _LAST_SYSTEM_UID:
        return ok(check, f"RemoveIPC=yes, which spares system users such as {user}")
    if lingers:
        return ok(check, f"RemoveIPC=yes, which does not affect {user}: lingering is enabled")
    return warning(
        check,
        f"RemoveIPC=yes: when {user} logs out, systemd removes the broker's names, and no new worker can "
        "attach",
        "RemoveIPC=no in /etc/systemd/logind.conf, or a system user for the broker, or: loginctl "
        f"enable-linger {user}",
    )


def config_texts(folders: Sequence[str] = _FOLDERS) -> list[str]:
    """The texts of logind.conf, then of its drop-ins by name; a file hides files of the same name in the folders before
    it."""
    main: dict[str, Path] = {}
    drop_ins: dict[str, Path] = {}
    for folder in folders:
        if (path := Path(folder, "logind.conf")).is_file():
            main["logind.conf"] = path
        for path in Path(folder, "logind.conf.d").glob("*.conf"):
            drop_ins[path.name] = path
    paths = [*main.values(), *(drop_ins[name] for name in sorted(drop_ins))]
    return [path.read_text(errors="replace") for path in paths if os.access(path, os.R_OK)]


def check(target: Target) -> Finding:
    if not Path("/run/systemd/system").is_dir():
        return ok("RemoveIPC", "systemd does not run here")
    uid = os.geteuid()
    if target.broker_pid is not None:
        uid = Path(f"/proc/{target.broker_pid}").stat().st_uid
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = f"uid {uid}"
    return judge(remove_ipc(config_texts()), user, uid, Path("/var/lib/systemd/linger", user).exists())
