"""What a broker may be started with, and how it crosses to the broker's own process."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any

import msgpack
import pytest

from broker.config.settings import TUNE_VARIABLE, Settings
from broker.host.processors import cores
from broker.models.spec import ModelSpec
from worker_client.wire.errors import InvalidInput
from worker_client.wire.layout import MAX_SLOTS, RING_END, block_bytes

MODEL = ModelSpec("digits", "models/digits")


def settings(**options: Any) -> Settings:
    return Settings(models=(MODEL,), **options)


def test_defaults_are_valid_and_leave_room():
    """The defaults pass their own checks, and a channel's first segment is a small part of every budget."""
    made = settings()
    assert made.first_segment_bytes * made.max_slots <= made.max_channel_bytes
    assert made.max_channel_bytes <= made.max_total_bytes


def test_the_first_segment_holds_ring_and_slots():
    """`first_segment_bytes` is the ring and one block of `slots` slots."""
    assert settings(slots=3, region_bytes=128).first_segment_bytes == RING_END + block_bytes(3, 128, 128)


@pytest.mark.parametrize(
    "options",
    [
        {"slots": 1},
        {"slots": MAX_SLOTS, "max_slots": MAX_SLOTS},
        {"slots": 4, "max_slots": 4},
        {"region_bytes": 64},
        {"region_bytes": 192},
        {"drain_seconds": 0},
        {"drain_seconds": 1.5},
        {"wait": "adaptive"},
        {"wait": "poll"},
        {"wait": "block"},
        {"tune": "auto"},
        {"tune": "remembered"},
        {"tune": "off"},
        {"tune_seconds": 0},
        {"tune_seconds": 0.5},
        {"onednn": "on"},
        {"onednn": "off"},
    ],
    ids=str,
)
def test_values_at_their_edges(options: dict[str, Any]):
    """The smallest and the largest value of each setting are taken."""
    settings(**options)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"slots": 0}, f"slots must be an integer from 1 to {MAX_SLOTS}, got 0"),
        ({"slots": MAX_SLOTS + 1}, f"slots must be an integer from 1 to {MAX_SLOTS}"),
        ({"slots": 2.0}, "slots must be an integer .* got 2.0"),
        ({"slots": "8"}, "slots must be an integer .* got '8'"),
        ({"slots": True}, "slots must be an integer .* got True"),
        ({"slots": 8, "max_slots": 7}, f"max_slots must be an integer from 8 to {MAX_SLOTS}, got 7"),
        ({"max_slots": MAX_SLOTS + 1}, "max_slots must be"),
        ({"region_bytes": 0}, "region_bytes must be an integer from 64"),
        ({"region_bytes": 65}, "region_bytes must be a multiple of 64, got 65"),
        ({"region_bytes": 1 << 31}, "region_bytes must be an integer"),
        ({"max_channel_bytes": 1000}, "max_channel_bytes must be an integer from"),
        ({"max_total_bytes": 1000}, "max_total_bytes must be an integer from"),
        ({"wait": "spin"}, "wait must be one of adaptive, poll, block, got 'spin'"),
        ({"tune": "on"}, "tune must be one of auto, remembered, off, got 'on'"),
        ({"tune": None}, "tune must be one of auto, remembered, off, got None"),
        ({"onednn": True}, "onednn must be one of auto, on, off, got True"),
        ({"tune_seconds": -1}, "tune_seconds must be a number from 0 to 3600, got -1"),
        ({"tune_seconds": 1e9}, "tune_seconds must be a number from 0 to 3600"),
        ({"drain_seconds": -1}, "drain_seconds must be a number from 0 to 1000000, got -1"),
        ({"drain_seconds": "30"}, "drain_seconds must be a number from 0 to 1000000, got '30'"),
        ({"drain_seconds": float("inf")}, "drain_seconds must be a number"),
        ({"drain_seconds": float("nan")}, "drain_seconds must be a number from 0 to 1000000, got nan"),
    ],
    ids=str,
)
def test_a_value_that_cannot_be(options: dict[str, Any], why: str):
    """InvalidInput names the setting, what it may be and what was given."""
    with pytest.raises(InvalidInput, match=why):
        settings(**options)


def test_budgets_are_checked_against_the_first_segment():
    """A budget that could not hold a single channel is refused at the start, not at the first worker."""
    least = settings(slots=2).first_segment_bytes
    settings(slots=2, max_channel_bytes=least, max_total_bytes=least)
    for name in ("max_channel_bytes", "max_total_bytes"):
        with pytest.raises(InvalidInput, match=f"{name} must be an integer from {least}"):
            settings(slots=2, **{name: least - 1})


def test_settings_cross_to_the_brokers_process():
    """Settings sent as a message and read again equal themselves, in every field."""
    made = Settings(
        models=(MODEL, ModelSpec("other", "package:function", tags=("serve", "gpu"))),
        address="/run/a.sock",
        slots=3,
        max_slots=9,
        region_bytes=128,
        max_channel_bytes=1 << 20,
        max_total_bytes=1 << 21,
        drain_seconds=1.5,
        wait="block",
        tune="remembered",
        tune_seconds=2.5,
        onednn="off",
    )
    message = msgpack.unpackb(msgpack.packb(made.to_message()))
    assert set(message) == {field.name for field in fields(Settings)}
    assert Settings.from_message(message) == made


def test_tuning_can_be_switched_off_from_outside(monkeypatch):
    """$BROKER_TUNE is the default of `tune`, and refused like the setting if it is no value; unset it is auto."""
    for value in ("off", "remembered", "auto"):
        monkeypatch.setenv(TUNE_VARIABLE, value)
        assert settings().tune == value
        assert settings(tune="off").tune == "off"
    monkeypatch.setenv(TUNE_VARIABLE, "never")
    with pytest.raises(InvalidInput, match="tune must be one of auto, remembered, off, got 'never'"):
        settings()
    for unset in (lambda: monkeypatch.setenv(TUNE_VARIABLE, ""), lambda: monkeypatch.delenv(TUNE_VARIABLE)):
        unset()
        assert settings().tune == "auto"


def test_cores_are_those_this_process_may_use():
    """A process that is bound to some processors counts only those."""
    assert cores() == len(os.sched_getaffinity(0))
