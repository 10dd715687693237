"""The dashboard asks for what a real broker exports."""

from __future__ import annotations

import re

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.brokers import TestBroker, wait_until
from tests.process.models import BAD_VALUE
from tests.process.observe.test_metrics import get
from tests.unit.observe.test_monitoring_files import expressions
from worker_client import Client, ModelFailed

MODELS = ("double", "picky")
OPTIONS = {"metrics_port": 0}
OF_PROMETHEUS = {"up"}


def samples(broker: TestBroker) -> dict[str, set[str]]:
    """Each name in its answer with the labels it has there."""
    found: dict[str, set[str]] = {}
    for family in parse(get(broker, "/metrics")[1]):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_each_expression_names_what_is_there(broker: TestBroker, client: Client) -> None:
    """In panels, annotations, variables and alerts: each metric is in the answer of a broker that has had requests and
    errors, with the labels by which it is chosen."""
    client.model("double").predict(np.ones((3, 4), np.float32))
    with pytest.raises(ModelFailed):
        client.model("picky").predict(np.full((1, 4), BAD_VALUE, np.float32))
    wait_until(lambda: "onesession_request_errors_total" in samples(broker), "the error")
    known = samples(broker)
    for where, expression in expressions():
        named = set(re.findall(r"\b((?:onesession|process)_\w+)\b", expression))
        assert named or OF_PROMETHEUS & set(re.findall(r"\w+", expression)), where
        missing = {name for name in named - known.keys() if not name.startswith("onesession_long_run")}
        assert not missing, where
        for name, selector in re.findall(r"\b(onesession_\w+)\{([^}]*)\}", expression):
            used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)) - {"instance", "job"}
            assert used <= known.get(name, used), where
