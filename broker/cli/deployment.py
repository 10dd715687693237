"""The texts of the files that `onesession init` writes.

    broker.toml           the models and their settings, which the three others refer to
    gunicorn.conf.py      a broker that starts and ends with gunicorn, or
    onesession.service    a broker that systemd starts, beside the app's own unit, or
    compose.yaml          a broker in its own container, beside the app's

The broker of the last two is at ADDRESS, and the app finds it by $BROKER_ADDRESS, with which gunicorn.conf.py starts no
other one.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from broker.models.spec import ModelSpec

CONFIG, GUNICORN, UNIT, COMPOSE = "broker.toml", "gunicorn.conf.py", "onesession.service", "compose.yaml"
ABOUT: Mapping[str, str] = {
    CONFIG: "the models and their settings",
    GUNICORN: "gunicorn, which starts the broker and ends it",
    UNIT: "the broker as a service of systemd",
    COMPOSE: "broker and app in two containers",
}
ADDRESS = "/run/onesession/service.sock"
"""Not a name that gunicorn.serve gives a broker: gunicorn.conf.py, read again for a reload, finds that one's address in
the environment, and has to tell it from this one."""
_USUAL_USER = "www-data"
_FOLDER = "/srv/app"
"""Where the containers have the folder of these files."""


def files(folder: Path, spec: ModelSpec | None) -> dict[str, str]:
    """Text by file name. `folder` is absolute; the model's path, if it is relative, counts from there."""
    return {CONFIG: _config(spec), GUNICORN: _GUNICORN, UNIT: _unit(folder), COMPOSE: _compose(spec)}


def _config(spec: ModelSpec | None) -> str:
    if spec is None:
        return f'{_CONFIG}# digits = "models/digits"\n'
    import tomlkit

    return f"{_CONFIG}{tomlkit.key(spec.name).as_string()} = {tomlkit.item(spec.source).as_string()}\n"


def _unit(folder: Path) -> str:
    return _UNIT.format(
        user=_user(),
        folder=_percents(os.fspath(folder)),
        program=_word(_program()),
        config=_word(os.fspath(folder / CONFIG)),
        address=ADDRESS,
    )


def _compose(spec: ModelSpec | None) -> str:
    return _COMPOSE.replace("$MODEL", "" if spec is None or spec.is_function else _mount(spec.source))


def _mount(source: str) -> str:
    """The line that mounts a model outside the folder where the broker looks for it; "" if the folder has it."""
    if "://" in source or not (os.path.isabs(source) or source.startswith("..")):
        return ""
    target = os.path.normpath(os.path.join(_FOLDER, source))
    return f"\n      - {{type: bind, source: {_yaml(source)}, target: {_yaml(target)}, read_only: true}}"


def _yaml(text: str) -> str:
    """A string in Docker Compose's file, where `$$` stands for a dollar sign."""
    return json.dumps(text.replace("$", "$$"), ensure_ascii=False)


def _program() -> str:
    """The program of this environment, or else the one that a shell finds."""
    beside = os.fspath(Path(sys.executable).with_name("onesession"))
    return beside if os.path.exists(beside) else shutil.which("onesession") or beside


def _user() -> str:
    """The user who runs this; for root, who sets it up for others, the usual user of web servers."""
    uid = os.geteuid()
    if uid == 0:
        return _USUAL_USER
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _word(text: str) -> str:
    """One word of a command line, quoted as systemd.service(5) and systemd.syntax(7) require."""
    text = _percents(text).replace("$", "$$")
    if not any(character in text for character in " \t\"'\\;"):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _percents(text: str) -> str:
    return text.replace("%", "%%")


_CONFIG = """\
# The models that the broker serves, and its settings: `onesession config show` prints them all with their defaults,
# `onesession config check` finds mistakes.

# max_total_bytes = 1_073_741_824  # shared memory of all workers together

[models]
# NAME = SOURCE (a SavedModel, a Keras file or module:function; relative paths count from this folder), or a table
# [models.NAME] with a `source` and settings such as `max_batch_size = 32`.
"""

_GUNICORN = f"""\
# gunicorn reads this file by itself in the folder where it is started: gunicorn app:app

import os
from pathlib import Path

bind = "127.0.0.1:8000"
workers = 4
timeout = 30  # seconds; calls of models get nine tenths of it

# The broker starts before the first worker and ends after the last one; your own hooks stand above these lines. Where a
# service or a container of its own has the broker (onesession.service, compose.yaml), gunicorn needs none.
if os.environ.get("BROKER_ADDRESS") != "{ADDRESS}":
    from broker.integrations import gunicorn

    gunicorn.serve(globals(), config=Path(__file__).with_name("{CONFIG}"))
"""

_UNIT = """\
# The broker as a service of its own: copy this file to /etc/systemd/system, then
#     systemctl daemon-reload && systemctl enable --now onesession
# The app's unit has Wants=onesession.service, After=onesession.service, the same User=, and
# Environment=BROKER_ADDRESS={address}

[Unit]
Description=onesession broker
StartLimitIntervalSec=0

[Service]
Type=notify
# Workers of the same user, and of root, may attach.
User={user}
WorkingDirectory={folder}
RuntimeDirectory=onesession
RuntimeDirectoryMode=0700
CacheDirectory=onesession
Environment=XDG_CACHE_HOME=/var/cache/onesession
ExecStart={program} serve --config {config} --name {address}
# Longer than start_seconds, in which models are loaded, and measured at the first start.
TimeoutStartSec=11min
WatchdogSec=30
Restart=on-failure
# A wrong setting: another start cannot help.
RestartPreventExitStatus=2
RestartSec=1
# From 1 s to 30 s; systemd before 254 does not know these two, and says so.
RestartSteps=5
RestartMaxDelaySec=30
# Longer than drain_seconds.
TimeoutStopSec=45
KillMode=mixed
LimitNOFILE=65536

# What a model's file can do to this machine. The broker writes to its socket's folder, its cache and /dev/shm, all of
# which these lines leave writable. Two others would part it from its workers, PrivateIPC= and a /dev/shm of its own;
# MemoryDenyWriteExecute= keeps XLA and oneDNN from compiling. ProtectHome=yes is fine where neither the models nor
# Python's environment are below /home or /root. PrivateDevices=yes is, where there is no GPU.
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictSUIDSGID=yes
RestrictRealtime=yes
LockPersonality=yes

[Install]
WantedBy=multi-user.target
"""

_COMPOSE = f"""\
# Broker and app in two containers: docker compose up. They share the socket's folder, /dev/shm and the user.

services:
  broker:
    image: my-broker  # yours: Python with onesession[tensorflow], or [broker] where no model needs TensorFlow
    # --supervise starts the broker again in this container: another one would have another /dev/shm.
    command: [onesession, serve, --supervise, --config, {CONFIG}, --name, {ADDRESS}]
    working_dir: {_FOLDER}
    user: "1000:1000"
    init: true
    ipc: shareable
    mem_limit: 4g  # TensorFlow, the models, and the shared memory of all workers (max_total_bytes)
    security_opt: ["no-new-privileges:true"]
    cap_drop: [ALL]
    environment:
      XDG_CACHE_HOME: /var/cache/onesession
    volumes:
      - .:{_FOLDER}:ro  # {CONFIG} and the models; others need a line of their own$MODEL
      - run:/run/onesession
      - cache:/var/cache/onesession  # in the image this folder belongs to the user, as then does the volume
    healthcheck:
      test: [CMD, onesession, status, --name, {ADDRESS}]
      interval: 30s
      timeout: 10s
      start_period: 11m  # models are loaded, and measured at the first start
      start_interval: 2s  # Docker 25 or newer
    stop_grace_period: 45s  # longer than drain_seconds
    restart: on-failure

  app:
    image: my-app  # yours: the app's needs and onesession, without extras
    command: [gunicorn, --bind, "0.0.0.0:8000", --workers, "4", "app:app"]
    working_dir: {_FOLDER}
    user: "1000:1000"
    ipc: service:broker
    mem_limit: 1g
    security_opt: ["no-new-privileges:true"]
    cap_drop: [ALL]
    environment:
      BROKER_ADDRESS: {ADDRESS}
    volumes:
      - .:{_FOLDER}:ro
      - run:/run/onesession
    ports: ["127.0.0.1:8000:8000"]
    depends_on:
      broker:
        condition: service_healthy
        restart: true  # a new broker container has another /dev/shm
    restart: unless-stopped

volumes:
  run:  # the broker trusts only a folder of its own user
    driver: local
    driver_opts: {{type: tmpfs, device: tmpfs, o: "uid=1000,gid=1000,mode=0700"}}
  cache:
"""
