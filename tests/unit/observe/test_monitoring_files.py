"""The dashboard and the alert rules name only metrics and labels that a broker exports."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from broker.observe.prometheus import METRICS

FOLDER = Path(__file__).parents[3] / "docs/monitoring"
FOREIGN = {"up", "process_cpu_seconds_total", "process_resident_memory_bytes"}
ADDED = {"instance", "job", "le"}


def exported() -> dict[str, set[str]]:
    """Each sample's name with its labels."""
    found = {name: set[str]() for name in FOREIGN}
    for name, (kind, text, labels) in METRICS.items():
        endings = {
            "counter": ("_total",),
            "histogram": ("_bucket", "_sum", "_count"),
            "gauge": ("",),
        }[kind(name, text).type]
        for ending in endings:
            found[name + ending] = set(labels)
    return found


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def expressions() -> Iterator[tuple[str, str]]:
    """(where, PromQL)"""
    dashboard = json.loads((FOLDER / "grafana.json").read_text())
    for panel in panels(dashboard):
        for target in panel.get("targets", []):
            yield f"panel {panel['title']}", target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        yield f"annotation {annotation['name']}", annotation["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield f"variable {variable['name']}", variable["definition"]
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield f"alert {rule['alert']}", rule["expr"]


@pytest.mark.parametrize(("where", "expression"), [pytest.param(*each, id=each[0]) for each in expressions()])
def test_every_metric_is_exported(where: str, expression: str):
    """With the labels that it is selected and summed by."""
    known = exported()
    named = re.findall(r"\b((?:onesession|process)_\w+|up)\b", expression)
    assert named, where
    labels = set[str]().union(*(known[name] for name in named)) | ADDED
    for name in named:
        assert name in known, where
    for selector in re.findall(r"(\w+)\{([^}]*)\}", expression):
        used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector[1]))
        assert used <= known[selector[0]] | ADDED, where
    for summed in re.findall(r"\bby \(([^)]*)\)", expression):
        assert {label.strip() for label in summed.split(",")} <= labels, where


@pytest.mark.parametrize(("where", "expression"), [pytest.param(*each, id=each[0]) for each in expressions()])
def test_every_expression_is_promql(where: str, expression: str):
    """As Prometheus's grammar has it, with Grafana's own variables filled in."""
    filled = expression.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$model", ".*")
    if not where.startswith("variable"):
        assert promql_parser.parse(filled) is not None


def test_every_alert_is_whole():
    """A name that no other has, an expression, a severity, and what it means."""
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]


def test_the_dashboard_is_whole():
    """Panels have numbers of their own, and none lies over another."""
    dashboard = json.loads((FOLDER / "grafana.json").read_text())
    every = list(panels(dashboard))
    assert len({panel["id"] for panel in every}) == len(every)
    places = [
        (x, y)
        for panel in every
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(places)) == len(places)
    assert max(x for x, _ in places) < 24


def test_every_panel_is_described():
    """In a sentence; no two have the same."""
    dashboard = json.loads((FOLDER / "grafana.json").read_text())
    described = [panel.get("description", "") for panel in panels(dashboard)]
    assert len(set(described)) == len(described) > 15
    for text in described:
        assert len(text) > 20
        assert text.endswith(".")


def test_restarts_and_reloads_are_marked():
    """As annotations, of the instances and models that are chosen."""
    dashboard = json.loads((FOLDER / "grafana.json").read_text())
    found = {each["name"]: each for each in dashboard["annotations"]["list"] if each["enable"]}
    assert {"Starts and restarts", "Reloads"} <= found.keys()
    assert "onesession_start_time_seconds" in found["Starts and restarts"]["expr"]
    assert "onesession_model_state" in found["Reloads"]["expr"]
    assert all('instance=~"$instance"' in each["expr"] for each in found.values())


def test_every_metric_is_explained():
    """docs/monitoring.md has a line for each, with its labels."""
    text = (FOLDER.parent / "monitoring.md").read_text()
    for name, (kind, _, labels) in METRICS.items():
        full = f"{name}_total" if kind(name, "").type == "counter" else name
        line = next((line for line in text.splitlines() if line.startswith(f"| `{full}`")), "")
        assert line, full
        for label in labels:
            assert f"`{label}`" in line or "model, version, signature" in line, (full, label)
