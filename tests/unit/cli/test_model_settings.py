"""`--set MODEL.SETTING=VALUE`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker.cli.model_settings import SETTINGS, with_settings
from broker.models.spec import ModelSpec
from worker_client.wire.errors import InvalidInput

DIGITS = ModelSpec("digits", "models/digits")
OTHER = ModelSpec("other.v2", "models/other")


@pytest.mark.parametrize(
    ("text", "setting", "value"),
    [
        ("digits.max_batch_size=32", "max_batch_size", 32),
        ("digits.max_delay=0.002", "max_delay", 0.002),
        ("digits.max_delay=auto", "max_delay", "auto"),
        ('digits.max_delay="auto"', "max_delay", "auto"),
        ("digits.batching=false", "batching", "off"),
        ("digits.batching=on", "batching", "on"),
        ("digits.warmup=false", "warmup", False),
        ("digits.inline=false", "inline", False),
        ("digits.inline=auto", "inline", "auto"),
        ("digits.allowed_batch_sizes=[1, 8, 32]", "allowed_batch_sizes", (1, 8, 32)),
        ("digits.tags=['serve', 'gpu']", "tags", ("serve", "gpu")),
        ("digits.labels={stable = 1, canary = 2}", "labels", {"stable": 1, "canary": 2}),
        (
            "digits.session_config={log_device_placement = true}",
            "session_config",
            {"log_device_placement": True},
        ),
        ("digits.caller_thread = true", "caller_thread", True),
        ("*.intra_op_threads=1", "intra_op_threads", 1),
    ],
)
def test_a_setting(text: str, setting: str, value: Any):
    """The value is TOML; a word needs no quotes, which a shell would take away."""
    assert with_settings([DIGITS], [text]) == [replace(DIGITS, **{setting: value})]


def test_of_one_model_and_of_all():
    """A setting of one model overrides a setting of all models, in any order; a later setting overrides an earlier
    one."""
    texts = [
        "digits.max_batch_size=8",
        "*.max_batch_size=16",
        "other.v2.batching=false",
        "*.max_delay=1",
        "*.max_delay=0.5",
    ]
    assert with_settings([DIGITS, OTHER], texts) == [
        replace(DIGITS, max_batch_size=8, max_delay=0.5),
        replace(OTHER, max_batch_size=16, max_delay=0.5, batching=False),
    ]


def test_settings_that_belong_together():
    """They are checked together, so their order does not matter."""
    texts = ["digits.max_batch_size=32", "digits.allowed_batch_sizes=[8,32]"]
    for order in (texts, texts[::-1]):
        (spec,) = with_settings([DIGITS], order)
        assert (spec.max_batch_size, spec.allowed_batch_sizes) == (32, (8, 32))


def test_nothing_said():
    """Nothing changed."""
    assert with_settings([DIGITS, OTHER], []) == [DIGITS, OTHER]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("digits", r"is not MODEL.SETTING=VALUE; write --set digits.max_batch_size=32"),
        ("digits.max_batch_size", "is not MODEL.SETTING=VALUE"),
        ("max_batch_size=3", "is not MODEL.SETTING=VALUE"),
        (".max_batch_size=3", "is not MODEL.SETTING=VALUE"),
        ("digits.=3", "is not MODEL.SETTING=VALUE"),
        ("nope.max_batch_size=3", "there is no model 'nope'; there is digits"),
        ("digits.nope=3", "there is no setting 'nope'; there are max_batch_size, "),
        ("digits.source=models/x", "there is no setting 'source'"),
        ("digits.name=x", "there is no setting 'name'"),
        ("digits.tags=[1", "'\\[1' is not a TOML value .*write a number, true, false"),
        ("digits.max_batch_size=", "'' is not a TOML value"),
        ("digits.max_batch_size=1\nbatching = false", "expected one value"),
        (
            "digits.max_batch_size={a = 1}",
            "max_batch_size must be an integer >= 1, got {'a': 1}",
        ),
        (
            "digits.max_batch_size=0",
            "model 'digits': max_batch_size must be an integer >= 1, got 0",
        ),
        ("digits.batching=no", 'batching must be "auto", "on" or "off", got \'no\''),
    ],
)
def test_what_is_wrong_is_told(text: str, said: str):
    """With the text itself, and what would be right."""
    with pytest.raises(InvalidInput, match=said):
        with_settings([DIGITS], [text])


def test_every_setting_of_a_model_can_be_set():
    """All fields of ModelSpec but its name and where it comes from."""
    assert set(SETTINGS) == set(ModelSpec.__slots__) - {"name", "source"}
