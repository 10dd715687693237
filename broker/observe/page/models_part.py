"""The part of the page on models: versions, signatures with their figures, and how to call each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from broker.counters.counted import counted
from broker.observe import formatting as wording
from broker.observe.calling import python_call
from broker.observe.page.markup import Cells, Html, element
from broker.observe.summary import Figures
from worker_client.wire.signature import Signature, TensorSpec

Message = Mapping[str, Any]

_MOST_SIGNATURES = 300
_STYLES = {"AVAILABLE": "good", "END": "bad", "LOADING": "warm", "START": "warm", "UNLOADING": "warm"}
_STAGES = ("queue", "wait", "run", "copy", "total")


class ModelsPart:
    """Of one page: `figures` of all signatures, `address` as `connect` takes it."""

    def __init__(self, figures: Sequence[Figures], address: str, cells: Cells) -> None:
        self._figures = {(each.model, each.version, each.signature): each for each in figures}
        self._address = address
        self._cells = cells
        self._left = _MOST_SIGNATURES

    def cards(self, models: Mapping[str, Message]) -> Iterator[Html]:
        for info in models.values():
            parts = [part for version in info["versions"] for part in self._signatures(info, version)]
            yield element("section", *self._head(info), *parts, class_="card")
        if self._left < 0:
            yield element("p", f"And {counted(-self._left, 'more signature')}: onesession models")

    def _head(self, info: Message) -> Iterator[Html]:
        labels = [f"label {label}: version {number}" for label, number in info["labels"].items()]
        badges = [element("span", label, class_="badge") for label in labels]
        yield element("header", element("h3", info["name"]), *badges)
        versions = [element("li", *self._version(version)) for version in info["versions"]]
        none = [element("li", "no version is served", class_="bad")]
        yield element("ul", *(versions or none), class_="versions")

    def _version(self, version: Message) -> Iterator[str]:
        state = version["state"]
        since = datetime.fromtimestamp(version["since"]).astimezone()
        yield f"version {version['version']} "
        yield element("span", state, class_=f"badge {_STYLES[state]}")
        yield element("span", f" since {since:%Y-%m-%d %H:%M:%S}", class_="dim")
        if version["memory_bytes"]:
            yield element("span", f", {wording.size(version['memory_bytes'])}", class_="dim")
        if version["cause"]:
            yield element("div", version["cause"], class_="bad" if state == "END" else "dim")

    def _signatures(self, info: Message, version: Message) -> Iterator[Html]:
        for described in version["signatures"] if version["state"] == "AVAILABLE" else ():
            self._left -= 1
            if self._left >= 0:
                yield self._signature(info, version, described)

    def _signature(self, info: Message, version: Message, described: Message) -> Html:
        signature = Signature.from_message(dict(described))
        figure = self._figures.get((info["name"], version["version"], signature.name))
        newest = version["version"] == info["version"]
        call = python_call(
            self._address,
            info["name"],
            signature,
            is_default=newest and signature.name == info["default_signature"],
            version=None if newest else version["version"],
        )
        return element(
            "article",
            element("header", element("h4", signature.name), *self._marks(info, described)),
            element(
                "div", _side("inputs", signature.inputs), _side("outputs", signature.outputs), class_="sides"
            ),
            self._numbers(figure),
            element(
                "details", element("summary", "Call it from Python"), element("pre", element("code", call))
            ),
            class_="signature",
        )

    def _marks(self, info: Message, described: Message) -> Iterator[Html]:
        yield self._cells.cell(wording.state_of(described), class_="badge")
        yield element("span", wording.joined(info, described), class_="badge")
        if described["stateful"]:
            yield element("span", f"stateful: it {described['stateful']}", class_="badge warm")
        if described["note"]:
            yield element("span", described["note"], class_="badge warm")

    def _numbers(self, figure: Figures | None) -> Html:
        times = [_times(figure, stage) for stage in _STAGES]
        facts = [("requests/s", wording.number(figure.per_second) if figure else "-"), *zip(_STAGES, times)]
        parts = [element("div", element("dt", name), self._cells.cell(text, "dd")) for name, text in facts]
        return element("dl", *parts, class_="figures")


def _times(figure: Figures | None, stage: str) -> str:
    """`12us / 30us`, the median and the 99th percentile."""
    if figure is None or not figure.stages[stage].count:
        return "-"
    return f"{wording.duration(figure.us(stage, 0.5))} / {wording.duration(figure.us(stage, 0.99))}"


def _side(title: str, specs: Sequence[TensorSpec]) -> Html:
    lines = [element("li", element("code", f"{spec.name}: {spec}")) for spec in specs]
    none = [element("li", "none", class_="dim")]
    return element("div", element("span", title, class_="dim"), element("ul", *(lines or none)))
