"""Light or heavy: what is not measured is heavy until its runs show otherwise, what is stateful always."""

from __future__ import annotations

from broker.models.entry import entry_of
from broker.models.function import ATTRIBUTE, FunctionModel, signature
from broker.models.spec import ModelSpec
from broker.scheduling.serving import Bound, Serving

US = 1000
ROWS = {"inputs": {"x": ("float32", [None])}, "outputs": {"y": ("float32", [None])}}


def serving(stateful: bool) -> Serving:
    function = signature(**ROWS, stateful=stateful)(lambda x: x)
    spec = ModelSpec("m", "app:f", warmup=False)
    model = FunctionModel(spec, function, getattr(function, ATTRIBUTE))
    return Serving(entry_of(1, model, "serving_default", 1), Bound(spec))


def test_one_run_does_not_make_it_light() -> None:
    """Nor do some: the first may be quick by chance, and a heavy run on the intake thread holds up all others."""
    found = serving(stateful=False)
    assert not found.light
    found.ran(1, 300_000 * US)
    for _ in range(20):
        found.ran(1, 20 * US)
    assert not found.light


def test_many_quick_runs_do() -> None:
    found = serving(stateful=False)
    for _ in range(100):
        found.ran(1, 20 * US)
    assert found.light
    for _ in range(100):
        found.ran(1, 5_000 * US)
    assert not found.light


def test_what_is_stateful_stays_heavy() -> None:
    """One thread runs it, so that its requests keep their order."""
    found = serving(stateful=True)
    for _ in range(1000):
        found.ran(1, 20 * US)
    assert not found.light
