"""What a broker is started with, and the defaults."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from typing import Any

from broker.config.logs import LogFormat, LogLevel
from broker.models.spec import ModelSpec, check_one_gpu_policy
from broker.models.unknown_name import check_names
from worker_client.ipc.waiting import WaitMode
from worker_client.wire.errors import InvalidInput
from worker_client.wire.layout import LINE, MAX_SLOTS, RING_END, block_bytes

MIB = 1 << 20
TUNE_VARIABLE = "BROKER_TUNE"
_DEVICES = re.compile(r"none|-1|(\d+|(GPU|MIG)-[\w\-/]+)(\s*,\s*(\d+|(GPU|MIG)-[\w\-/]+))*")


class Tune(Enum):
    """Whether models are tuned to the machine when they are loaded (docs/tuning.md)."""

    AUTO = "auto"
    """Measure what is not remembered."""
    REMEMBERED = "remembered"
    """Take what is remembered, but measure nothing: for a restart while workers wait."""
    OFF = "off"


class OneDnn(Enum):
    AUTO = "auto"
    ON = "on"
    OFF = "off"


START_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Settings:
    """One broker. Byte counts bound shared memory: a worker past them gets Overloaded, which names the setting.

    A channel starts with `slots` slots, each with an input and an output region of `region_bytes`, and grows to
    at most `max_slots`; regions grow by themselves. `wait` is for benchmarks.

    `tune` is auto, remembered or off (default $BROKER_TUNE, else auto); a SavedModel that was never measured on this
    machine is then measured for at most `tune_seconds`, besides starting TensorFlow. `onednn` is auto (as measured),
    on or off, for all models; $TF_ENABLE_ONEDNN_OPTS goes first. `visible_devices` are the numbers of the GPUs that
    TensorFlow may see, such as "0,1", or "none".

    `poll_seconds` is how often to look for new versions of the models on disk; 0, the default, leaves it to
    `broker reload`. What is found is loaded when it has not changed from one look to the next.

    `start_seconds` is how long a start may take until all models are loaded, and the load of one version while the
    broker serves; 0 sets no limit. A start in place of a process that has ended may take ten times what the longest has
    taken, a minute at the least, as the workers wait; then it is made without the model that was being loaded.

    `allow_uid` and `allow_gid` are numbers of users and groups whose workers may attach beside those of the broker's
    own user: for a broker that runs as root beside a server that drops its workers' privileges. They call the models'
    signatures; with `allow_sessions` they may also run any tensors of their graphs (`client.session`).

    `idle_seconds` is after how long without workers a broker in a process of its own ends; 0, the default, is never. It
    does not hold for a broker that is supervised.

    `metrics_port` (0: any that is free) at `metrics_host`, and `metrics_socket`, the path of a Unix socket, are where
    metrics and health are offered over HTTP (docs/monitoring.md). `log_level` (debug, info, warning or error) and
    `log_format` (text or json) are for a broker in a process of its own. `restarts`, `suspects` (models that ran when
    the process before ended) and `set_aside` (models not to be served, each with the cause) are for who starts a broker
    again.
    """

    models: tuple[ModelSpec, ...]
    address: str = "default"
    slots: int = 8
    max_slots: int = 64
    region_bytes: int = 4096
    max_channel_bytes: int = 256 * MIB
    max_total_bytes: int = 1024 * MIB
    drain_seconds: float = 30.0
    start_seconds: float = START_SECONDS
    wait: str = WaitMode.ADAPTIVE.value
    tune: str = field(default_factory=lambda: os.environ.get(TUNE_VARIABLE) or Tune.AUTO.value)
    tune_seconds: float = 10.0
    onednn: str = OneDnn.AUTO.value
    visible_devices: str | None = None
    allow_uid: tuple[int, ...] = ()
    allow_gid: tuple[int, ...] = ()
    allow_sessions: bool = False
    poll_seconds: float = 0.0
    idle_seconds: float = 0.0
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
    metrics_socket: str | None = None
    log_level: str = "warning"
    log_format: str = LogFormat.TEXT.value
    restarts: int = 0
    suspects: tuple[str, ...] = ()
    set_aside: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check("slots", self.slots, 1, MAX_SLOTS)
        _check("max_slots", self.max_slots, self.slots, MAX_SLOTS)
        _check("region_bytes", self.region_bytes, LINE, 1 << 30)
        if self.region_bytes % LINE:
            raise InvalidInput(f"region_bytes must be a multiple of {LINE}, got {self.region_bytes}")
        _check("max_channel_bytes", self.max_channel_bytes, self.first_segment_bytes, 1 << 44)
        _check("max_total_bytes", self.max_total_bytes, self.first_segment_bytes, 1 << 44)
        _check_seconds("drain_seconds", self.drain_seconds, 1_000_000)
        _check_seconds("start_seconds", self.start_seconds, 1_000_000)
        _check_choice("wait", self.wait, WaitMode)
        _check_choice("tune", self.tune, Tune)
        _check_choice("onednn", self.onednn, OneDnn)
        devices: Any = self.visible_devices
        if devices is not None and not (isinstance(devices, str) and _DEVICES.fullmatch(devices)):
            raise InvalidInput(f"visible_devices must be GPUs such as '0,1', or 'none', got {devices!r}")
        check_one_gpu_policy(self.models)
        _check_seconds("tune_seconds", self.tune_seconds, 3600)
        _check_seconds("poll_seconds", self.poll_seconds, 86_400)
        _check_seconds("idle_seconds", self.idle_seconds, 1_000_000_000)
        if self.metrics_port is not None:
            _check("metrics_port", self.metrics_port, 0, 65535)
        _check_text("metrics_host", self.metrics_host, "a host's name or address")
        if self.metrics_socket is not None:
            object.__setattr__(self, "metrics_socket", _path("metrics_socket", self.metrics_socket))
        _check_choice("log_level", self.log_level, LogLevel)
        _check_choice("log_format", self.log_format, LogFormat)
        _check("restarts", self.restarts, 0, 1 << 62)
        if not isinstance(self.allow_sessions, bool):
            raise InvalidInput(f"allow_sessions must be True or False, got {self.allow_sessions!r}")
        for name in ("allow_uid", "allow_gid"):
            numbers = _listed(name, getattr(self, name))
            for number in numbers:
                _check(f"each of {name}", number, 0, (1 << 32) - 2)
            object.__setattr__(self, name, numbers)

    @classmethod
    def of(cls, models: Iterable[ModelSpec], options: Mapping[str, Any]) -> Settings:
        """Of keywords that a user has written. Raises InvalidInput."""
        check_names("a broker", options, tuple(field.name for field in fields(cls) if field.name != "models"))
        return cls(models=tuple(models), **options)

    @property
    def first_segment_bytes(self) -> int:
        return RING_END + block_bytes(self.slots, self.region_bytes, self.region_bytes)

    def to_message(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Settings:
        models = tuple(ModelSpec(**model) for model in message["models"])
        return cls(**{**message, "models": models, "suspects": tuple(message["suspects"])})


def _check(name: str, value: Any, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidInput(f"{name} must be a whole number from {least} to {most}, got {value!r}")


def _check_seconds(name: str, value: Any, most: int) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= most:
        raise InvalidInput(f"{name} must be a number from 0 to {most}, got {value!r}")


def _check_text(name: str, value: Any, expected: str) -> None:
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"{name} must be {expected}, got {value!r}")


def _path(name: str, value: Any) -> str:
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    _check_text(name, path, "the path of a Unix socket")
    return str(path)


def _listed(name: str, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, Iterable) or isinstance(value, (str, bytes, Mapping)):
        raise InvalidInput(f"{name} must be a list of numbers such as [1000], got {value!r}")
    return tuple(value)


def _check_choice(name: str, value: Any, kind: type[Enum]) -> None:
    values = [each.value for each in kind]
    if value not in values:
        raise InvalidInput(f"{name} must be one of {', '.join(values)}, got {value!r}")
