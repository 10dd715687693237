"""The keywords of `Broker(...)` and `gunicorn.serve(...)` for type checkers: Settings, in the forms that it accepts."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Literal, TypedDict


class Options(TypedDict, total=False):
    slots: int
    max_slots: int
    region_bytes: int
    max_channel_bytes: int
    max_total_bytes: int
    drain_seconds: float
    wait: Literal["adaptive", "poll", "block"]
    tune: Literal["auto", "remembered", "off"]
    tune_seconds: float
    onednn: Literal["auto", "on", "off"]
    visible_devices: str | None
    allow_uid: Iterable[int]
    allow_gid: Iterable[int]
    allow_sessions: bool
    poll_seconds: float
    idle_seconds: float
    metrics_port: int | None
    metrics_host: str
    metrics_socket: str | os.PathLike[str] | None
    log_level: Literal["debug", "info", "warning", "error"]
    log_format: Literal["text", "json"]


class StartOptions(Options, total=False):
    """For functions where `start_seconds` is not a parameter of its own."""

    start_seconds: float
