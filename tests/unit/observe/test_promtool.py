"""Prometheus's own checker on the alert rules, and on what a scrape gives, where it is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.exposition import generate_latest

from broker.counters.histogram import Histogram
from broker.counters.thread_counters import STAGES
from broker.observe import prometheus

HERE = Path(__file__).parent
ALERTS = HERE.parents[2] / "docs/monitoring/alerts.yml"

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: apt install prometheus)"
)


def promtool(*words: str, given: bytes = b"") -> None:
    done = subprocess.run(["promtool", *words], input=given, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def test_the_rules_load():
    """As Prometheus loads them."""
    promtool("check", "rules", str(ALERTS))


def test_each_alert_fires_for_its_trouble_and_no_other():
    """A broker without trouble has none, one with every trouble has all, with the labels that their texts name."""
    promtool("test", "rules", str(HERE / "alerts_test.yml"))


def test_names_and_help_pass_the_linter():
    """Names, units, types and help of every metric."""
    made = prometheus.registry(message, "1.0")
    promtool("check", "metrics", given=generate_latest(made))


def message() -> dict[str, object]:
    """What `Statistics.message` gives of a broker with one of everything."""
    histogram = Histogram()
    histogram.counts[20] = 2
    counters = ("rows", "padded_rows", "input_bytes", "output_bytes", "joined_bytes", "gather_ns", "runs")
    signature = {
        "model": "m",
        "version": 1,
        "signature": "s",
        "light": True,
        "why": "measured",
        "inline_runs": 0,
        "stateful": "",
        "requests": 2,
        **dict.fromkeys(counters, 2),
        "errors": {"ModelFailed": 1},
        "sizes": [(1, 2)],
        "paddings": [(1, 1)],
        "stages": {stage: histogram.to_message() for stage in STAGES},
    }
    return {
        "started": 1.0,
        "restarts": 0,
        "workers": [{"in_ring": 0}],
        "shared_memory": {"bytes": 1, "limit": 2},
        "arrivals": {"attached": 1, "reattached": 0, "detached": 0},
        "queues": {"m": {"rows": 0, "bytes": 0, "held": 0}},
        "waiting": {"polling": "freely", "reason": "quiet"},
        "slots": {"free": 8},
        "versions": [{"model": "m", "version": 1, "state": "AVAILABLE", "memory_bytes": 1}],
        "signatures": [signature],
    }
