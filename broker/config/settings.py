"""The settings of a broker and their defaults."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from typing import Any

from broker.config.logs import LogFormat, LogLevel
from broker.models.setting_field import (
    FLAG,
    ChoiceCheck,
    IntegerCheck,
    check_settings,
    form,
    listed,
    number,
    only,
    setting,
)
from broker.models.spec import ModelSpec, check_one_gpu_policy
from broker.models.spec_values import path
from broker.models.unknown_name import check_names
from worker_client.ipc.waiting import WaitMode
from worker_client.wire.layout import LINE, MAX_SLOTS, RING_END, block_bytes

MIB = 1 << 20
TUNE_VARIABLE = "BROKER_TUNE"
_DEVICES = re.compile(r"none|-1|(\d+|(GPU|MIG)-[\w\-/]+)(\s*,\s*(\d+|(GPU|MIG)-[\w\-/]+))*")


class Tune(Enum):
    """Whether models are tuned to the machine when they are loaded (docs/tuning.md)."""

    AUTO = "auto"
    """Use remembered measurements; measure the other models."""
    REMEMBERED = "remembered"
    """Use remembered measurements and measure nothing: for a restart while workers wait."""
    OFF = "off"


class OneDnn(Enum):
    AUTO = "auto"
    ON = "on"
    OFF = "off"


START_SECONDS = 600.0


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


_BUDGET = IntegerCheck("first_segment_bytes", 1 << 44)
_NUMBERS = listed("a list of numbers such as [1000]", IntegerCheck(0, (1 << 32) - 2))


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one broker. Sizes in bytes bound shared memory: a worker that exceeds them gets Overloaded, which
    names the setting.

    A channel starts with `slots` slots, each with an input and an output region of `region_bytes`, and grows to
    at most `max_slots`; regions grow as needed. `wait` is for benchmarks.

    `tune` is auto, remembered or off (default $BROKER_TUNE, else auto); with auto, a SavedModel that was never measured
    on this machine is measured for at most `tune_seconds`, not counting the start of TensorFlow. `onednn` is auto (as
    measured), on or off, for all models; $TF_ENABLE_ONEDNN_OPTS overrides it. `visible_devices` lists the numbers of
    the GPUs that TensorFlow may see, such as "0,1", or is "none".

    `poll_seconds` is the time between two checks for new versions of the models on disk; with 0, the default, only
    `onesession reload` loads new versions. A new version is loaded once it has not changed between two checks.

    `start_seconds` limits the time of a start until all models are loaded, and the time to load one version while the
    broker serves; 0 sets no limit. When a process that ended is replaced, workers wait: that start may take ten times
    as long as the longest so far, and at least a minute. After that the broker starts without the model that was being
    loaded.

    `allow_uid` and `allow_gid` are numbers of users and groups whose workers may attach in addition to those of the
    broker's own user: for a broker that runs as root and a server that drops its workers' privileges. These workers may
    call the models' signatures; with `allow_sessions` they may also run any tensors of the graphs (`client.session`).

    A broker in a process of its own ends after `idle_seconds` without workers; with 0, the default, it never does. The
    setting does not apply to a supervised broker. A broker that ends is one that a node shares (docs/node.md): unless
    set, its models' `max_batch_size` is 256, and their `max_concurrency` 2 if it was not measured.

    Metrics and health are served over HTTP on `metrics_port` (0: any free port) of `metrics_host`, and on
    `metrics_socket`, the path of a Unix socket (docs/monitoring.md). `log_level` (debug, info, warning or error) and
    `log_format` (text or json) apply to a broker in a process of its own. `restarts`, `suspects` (models that ran when
    the previous process ended) and `set_aside` (models not to be served, each with the cause) are set by the parent
    that starts a broker again.
    """

    models: tuple[ModelSpec, ...]
    address: str = "default"
    slots: int = setting(
        8, IntegerCheck(1, MAX_SLOTS), "Slots per worker at first: requests that it can have in flight."
    )
    max_slots: int = setting(64, IntegerCheck("slots", MAX_SLOTS), "Maximum slots per worker.")
    region_bytes: int = setting(
        4096,
        IntegerCheck(LINE, 1 << 30, multiple_of=LINE),
        "Shared memory for the inputs, and for the outputs, of a request at first; it grows as needed.",
    )
    max_channel_bytes: int = setting(256 * MIB, _BUDGET, "Maximum shared memory of one worker.")
    max_total_bytes: int = setting(1024 * MIB, _BUDGET, "Maximum shared memory of all workers.")
    drain_seconds: float = setting(
        30.0, number(0, 1_000_000), "How long accepted requests may still run when the broker is stopped."
    )
    start_seconds: float = setting(
        START_SECONDS,
        number(0, 1_000_000),
        "Maximum time of a start, and of loading a version later; 0 for no limit.",
    )
    wait: str = setting(WaitMode.ADAPTIVE.value, ChoiceCheck(WaitMode))
    tune: str = setting(
        lambda: os.environ.get(TUNE_VARIABLE) or Tune.AUTO.value,
        ChoiceCheck(Tune),
        "Find each SavedModel's best settings when it is first loaded.  [default: $BROKER_TUNE, else tune]",
        option="--tune/--no-tune",
    )
    tune_seconds: float = setting(10.0, number(0, 3600), "Maximum time to measure a model.")
    onednn: str = setting(
        OneDnn.AUTO.value, ChoiceCheck(OneDnn), "Whether TensorFlow uses oneDNN: as measured, or fixed."
    )
    visible_devices: str | None = setting(
        None,
        only("GPUs such as '0,1', or 'none'", lambda text: _is_text(text) and bool(_DEVICES.fullmatch(text))),
        "The GPUs that TensorFlow may see.  [default: all, or $CUDA_VISIBLE_DEVICES]",
        metavar="0,1|none",
    )
    allow_uid: tuple[int, ...] = setting(
        (),
        _NUMBERS,
        "A user whose workers may also attach (the broker runs as root). May be given several times.",
        metavar="NUMBER",
    )
    allow_gid: tuple[int, ...] = setting(
        (), _NUMBERS, "A group whose users' workers may also attach.", metavar="NUMBER"
    )
    allow_sessions: bool = setting(
        False,
        FLAG,
        "Let workers of --allow-uid and --allow-gid also run any tensors of the models' graphs "
        "(client.session).",
    )
    poll_seconds: float = setting(
        0.0,
        number(0, 86_400),
        "How often to check for new versions of models on disk; 0 for never, see `onesession reload`.",
    )
    idle_seconds: float = setting(
        0.0,
        number(0, 1_000_000_000),
        "End after this time without workers.  [default: 0, never]",
        metavar="N",
    )
    metrics_port: int | None = setting(
        None,
        IntegerCheck(0, 65535),
        "Serve a page, /metrics, /livez and /readyz over HTTP on this port. 0: any free port.",
        metavar="PORT",
    )
    metrics_host: str = setting(
        "127.0.0.1",
        only("the name or address of a host", _is_text),
        "The address for --metrics-port.  0.0.0.0: all addresses of this machine.",
    )
    metrics_socket: str | None = setting(
        None,
        form("the path of a Unix socket", path),
        "Serve /metrics, /livez and /readyz on this Unix socket, for the broker's own user.",
        metavar="PATH",
    )
    log_level: str = setting("warning", ChoiceCheck(LogLevel), "The lowest level that is written to stderr.")
    log_format: str = setting(
        LogFormat.TEXT.value, ChoiceCheck(LogFormat), "json: one object per line, for programs."
    )
    restarts: int = setting(0, IntegerCheck(0, 1 << 62))
    suspects: tuple[str, ...] = ()
    set_aside: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_settings(self)
        check_one_gpu_policy(self.models)

    @classmethod
    def of(cls, models: Iterable[ModelSpec], options: Mapping[str, Any]) -> Settings:
        """Make settings of keywords that a user wrote. Raises InvalidInput."""
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
