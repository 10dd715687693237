"""Rows that depend on each other are found out by running: functions of numpy as models, with several seeds."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from broker.models.python.function import ATTRIBUTE, Side, signature
from broker.models.rows.independence import Verdict, examine
from broker.models.rows.rounding import rounding_explains
from worker_client.wire.signature import Signature

F = "float32"
ROWS: Side = {"x": (F, [None, 8])}
SERIES: Side = {"x": (F, [None])}
TEXT: Side = {"text": ("string", [None])}
W = np.random.default_rng(0).normal(size=(8, 5)).astype(F)
TABLE = np.random.default_rng(1).normal(size=(100, 6)).astype(F)
SEEDS = range(3)
RANDOM = np.random.default_rng(1)

Kind = tuple[Callable[..., Any], Side, Side]
INDEPENDENT: list[Kind] = []
DEPENDENT: list[Kind] = []


def signed(inputs: Side, outputs: Side) -> Signature:
    made: Signature = getattr(signature(inputs=inputs, outputs=outputs)(lambda: None), ATTRIBUTE)
    return made


def kind(found: list[Kind], inputs: Side, *outputs: tuple[str, list[int | None]]) -> Callable[..., Any]:
    def keep(function: Callable[..., Any]) -> Callable[..., Any]:
        found.append((function, inputs, {f"y{number}": each for number, each in enumerate(outputs)}))
        return function

    return keep


def verdict(each: Kind, **options: Any) -> Verdict:
    function, inputs, outputs = each
    with np.errstate(all="ignore"):
        return examine(function, signed(inputs, outputs), 64, **options)


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(e / e.sum(axis=axis, keepdims=True))


@kind(INDEPENDENT, ROWS, (F, [None, 5]))
def dense(x):
    return [softmax(np.tanh(x @ W), 1)]


@kind(INDEPENDENT, ROWS, (F, [None, 5]))
def logits_as_large_as_a_thousand(x):
    return [softmax(x @ W * 1e3, 1)]


@kind(INDEPENDENT, ROWS, (F, [None]))
def not_a_number(x):
    return [np.where(x[:, 0] > 0, np.nan, x[:, 1]).astype(F)]


@kind(INDEPENDENT, ROWS, ("int64", [None]))
def best_class(x):
    return [(x @ W).argmax(1)]


@kind(INDEPENDENT, {"x": ("float16", [None, 8])}, ("float16", [None, 5]))
def half(x):
    return [x @ W.astype("float16")]


@kind(INDEPENDENT, {"x": ("complex64", [None, 8])}, ("complex64", [None, 8]))
def spectrum(x):
    return [np.fft.fft(x, axis=1).astype("complex64")]


@kind(INDEPENDENT, {"image": ("uint8", [None, None, None, 3])}, (F, [None, 3]))
def image_of_some_size(image):
    if image.shape[1] < 16:
        raise ValueError("too small")
    return [image.mean((1, 2)).astype(F)]


@kind(INDEPENDENT, TEXT, (F, [None, 2]))
def text_encoder(text):
    return [np.array([[zlib.crc32(each) % 1000, len(each)] for each in text], F).reshape(-1, 2)]


@kind(INDEPENDENT, TEXT, (F, [None]))
def numbers_in_text(text):
    return [np.array([float(each) for each in text], F)]


@kind(INDEPENDENT, {"ids": ("int64", [None, None]), "mask": ("int64", [None, None])}, (F, [None, 6]))
def attention(ids, mask):
    if ids.max() >= 100 or ids.min() < 0 or mask.max() > 1 or mask.min() < 0:
        raise ValueError("out of range")
    vectors = TABLE[ids]
    scores = np.einsum("bid,bjd->bij", vectors, vectors) - 1e9 * (1 - mask[:, None, :])
    return [(softmax(scores, 2) @ vectors).mean(1).astype(F)]


@kind(DEPENDENT, ROWS, (F, [None]))
def ranking(x):
    return [softmax(x @ W[:, 0], 0)]


@kind(DEPENDENT, ROWS, (F, [None]))
def sharp_ranking(x):
    return [softmax(50 * x @ W[:, 0], 0)]


@kind(DEPENDENT, ROWS, (F, [None, 5]))
def batch_normalisation(x):
    return [(x - x.mean(0)) / np.sqrt(x.var(0) + 1e-3) @ W]


@kind(DEPENDENT, ROWS, (F, [None, 8]))
def a_millionth_of_the_largest(x):
    return [x + np.float32(1e-6) * x.max()]


@kind(DEPENDENT, ROWS, (F, [None, 8]))
def a_millionth_of_a_saturated_mean(x):
    return [x * np.float32(1 + 1e-6 * np.tanh(x.mean()))]


@kind(DEPENDENT, ROWS, (F, [None, 8]))
def coarse_by_the_largest(x):
    step = np.abs(x).max() / 127 or np.float32(1)
    return [np.round(x / step) * step]


@kind(DEPENDENT, SERIES, (F, [None]))
def running_sum(x):
    return [np.cumsum(x)]


def echo_after(steps: int) -> Callable[[np.ndarray], list[np.ndarray]]:
    def echo(x: np.ndarray) -> list[np.ndarray]:
        y = x.copy()
        y[steps:] += x[:-steps]
        return [y]

    return echo


for steps in (1, 2, 3, 30, 100):
    kind(DEPENDENT, SERIES, (F, [None]))(echo_after(steps))


@kind(DEPENDENT, {"image": (F, [None, 16, 3])}, (F, [None, 16, 3]))
def one_image(image):
    y = image.copy()
    y[:-1] += image[1:]
    return [y]


@kind(DEPENDENT, ROWS, ("int32", [None]))
def numbered(x):
    return [np.arange(len(x), dtype="int32")]


@kind(DEPENDENT, ROWS, (F, [None, 5]), ("int32", [None]))
def counted(x):
    return [x @ W, np.full(len(x), len(x), "int32")]


@kind(DEPENDENT, ROWS, (F, [None, 8]))
def header(x):
    return [np.concatenate([x[:1] * 0, x[1:]])]


@kind(DEPENDENT, ROWS, (F, [None, 8]))
def trailer(x):
    return [np.concatenate([x[:-1], x[-1:] * 0])]


@kind(DEPENDENT, ROWS, (F, [None, 8]))
def each_once(x):
    return [np.unique(x, axis=0)]


@kind(DEPENDENT, ROWS, (F, [None, 8]))
def repeated_rows_marked(x):
    return [np.array([row * (1 + (x[:n] == row).all(1).any()) for n, row in enumerate(x)], F)]


@kind(DEPENDENT, ROWS, (F, [None, 8]))
def sorted_columns(x):
    return [np.sort(x, 0)]


@kind(DEPENDENT, ROWS, (F, [None, 8]))
def without_zeros(x):
    return [x[(x != 0).any(1)]]


@kind(DEPENDENT, ROWS, (F, [None]))
def scalar(x):
    return [x.mean()]


@kind(DEPENDENT, ROWS, (F, [None, 8]))
def one_row_for_all(x):
    return [x.mean(0, keepdims=True)]


@kind(DEPENDENT, ROWS, (F, [None, 16]))
def cloud(x):
    return [np.concatenate([x, np.broadcast_to(x.max(0), x.shape)], 1)]


@kind(DEPENDENT, ROWS, (F, [None, 5]))
def another_way_for_many(x):
    return [x @ W - (len(x) > 40) * (x @ W).mean(0)]


@kind(DEPENDENT, ROWS, (F, [None, 8]))
def another_way_beside_large_numbers(x):
    return [x * (1 + (x.max() > 500))]


@kind(DEPENDENT, ROWS, (F, [None, 8]))
def only_beside_numbers_beyond_ten_thousand(x):
    return [x * (1 + (x.max() > 1e4))]


@kind(DEPENDENT, ROWS, (F, [None, 8]))
def nothing_beside_what_is_not_a_number(x):
    return [x * 2 if not np.isnan(x).any() else x * 0]


@kind(DEPENDENT, ROWS, (F, [None, 8]))
def half_beside_an_infinity(x):
    return [x / (1 + np.isinf(x).any())]


@kind(DEPENDENT, {"x": ("bool", [None, 3])}, ("bool", [None]))
def three_of_all(x):
    return [x.any(1) & (x.sum() > 3)]


@kind(DEPENDENT, TEXT, ("string", [None, None]))
def as_wide_as_the_longest(text):
    words = [each.split(b" ") for each in text]
    made = np.full((len(text), max(map(len, words))), b"", object)
    for row, each in zip(made, words):
        row[: len(each)] = each
    return [made]


@kind(DEPENDENT, TEXT, (F, [None]))
def only_with_a_long_text(text):
    sizes = np.array([len(each) for each in text], F)
    return [sizes + (sizes.max() > 1500) * sizes.sum()]


@kind(DEPENDENT, {"ids": ("int64", [None, None])}, (F, [None, 6]))
def only_with_some_ids(ids):
    if ids.max() >= 100 or ids.min() < 0:
        raise ValueError("out of range")
    return [TABLE[ids].mean(1) - np.float32(1e-4) * TABLE[ids[ids >= 50]].sum()]


@kind(DEPENDENT, {"nodes": (F, [None, 4]), "edges": ("int32", [None, 2])}, (F, [None, 4]))
def graph_net(nodes, edges):
    if edges.max() >= len(nodes) or edges.min() < 0:
        raise ValueError("no such node")
    made = nodes.copy()
    np.add.at(made, edges[:, 0], nodes[edges[:, 1]])
    return [made]


@kind(DEPENDENT, {"terms": ("int64", [None]), "documents": (F, [None, 4])}, (F, [None]))
def terms_and_documents(terms, documents):
    return [documents.sum(1) * np.float32((terms % 7).sum())]


def names(kinds: list[Kind]) -> list[str]:
    return [function.__name__ for function, *_ in kinds]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("each", INDEPENDENT, ids=names(INDEPENDENT))
def test_independent_rows_are_found_so(each: Kind, seed: int) -> None:
    assert verdict(each, seed=seed) == Verdict("")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("each", DEPENDENT, ids=names(DEPENDENT))
def test_dependent_rows_are_found_out(each: Kind, seed: int) -> None:
    """One sentence says by what."""
    found = verdict(each, seed=seed)
    assert found.apart
    assert found.lasting


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (lambda x: [np.ones((len(x), 5), F)], "its answers are the same for all inputs"),
        (lambda x: {}[len(x)], "no made-up request could be run (1)"),
        (
            lambda x: [x @ W + RANDOM.random((len(x), 5), F)],
            "differently each time",
        ),
    ],
)
def test_what_tells_nothing_counts_as_dependent(run: Callable[..., Any], said: str) -> None:
    found = verdict((run, ROWS, {"y": (F, [None, 5])}))
    assert said in found.apart


@pytest.mark.parametrize(
    ("inputs", "outputs", "said"),
    [
        ({}, {"y": (F, [None])}, "it takes no inputs"),
        ({"x": (F, None)}, {"y": (F, [None])}, "the rank of input 'x' is unknown"),
        (
            {"x": (F, [None]), "k": (F, [])},
            {"y": (F, [None])},
            "the first dimension of input 'k' is not free",
        ),
        ({"x": (F, [None])}, {"y": (F, [3])}, "the first dimension of output 'y' is not free"),
    ],
)
def test_shapes_say_enough(inputs: Side, outputs: Side, said: str) -> None:
    """Nothing is run then."""
    assert verdict((pytest.fail, inputs, outputs)).apart == said


def test_what_takes_too_long_is_left_to_be_examined_again() -> None:
    """By the clock that is given: each run is a second."""
    seconds: Iterator[int] = iter(range(10_000))
    found = verdict((dense, ROWS, {"y": (F, [None, 5])}), clock=lambda: float(next(seconds)))
    assert "too slow to be examined" in found.apart
    assert not found.lasting


class BusyClock:
    """The clock of a machine that becomes busy after some runs of a model: each look then takes seconds longer."""

    def __init__(self, runs: int, look_s: float) -> None:
        self._runs = runs
        self._look_s = look_s
        self._now = 0.0

    def model(self, each: Kind) -> Kind:
        function, inputs, outputs = each

        def run(*feeds: np.ndarray) -> Any:
            self._runs -= 1
            return function(*feeds)

        return run, inputs, outputs

    def __call__(self) -> float:
        self._now += 1e-4 if self._runs > 0 else self._look_s
        return self._now


@pytest.mark.parametrize("seed", SEEDS)
def test_a_busy_machine_skips_no_family(seed: int) -> None:
    """The last family of values has its trial even if the time was over after the first few."""
    clock = BusyClock(runs=100, look_s=0.01)
    each = clock.model((only_beside_numbers_beyond_ten_thousand, ROWS, {"y": (F, [None, 8])}))
    assert verdict(each, seed=seed, clock=clock).apart


@pytest.mark.parametrize(("runs", "said"), [(10, "too slow to be examined"), (150, "")])
def test_what_a_busy_machine_has_cut_short_is_not_remembered(runs: int, said: str) -> None:
    clock = BusyClock(runs, look_s=0.2)
    found = verdict(clock.model((dense, ROWS, {"y": (F, [None, 5])})), clock=clock)
    assert said in found.apart
    assert bool(said) is bool(found.apart)
    assert not found.lasting


def test_a_slow_model_is_examined_once() -> None:
    """Its runs take a tenth of a second on an idle machine, too: so many trials must be enough."""
    now = [0.0]

    def slow(x: np.ndarray) -> list[np.ndarray]:
        now[0] += 0.1
        return dense(x)

    assert verdict((slow, ROWS, {"y": (F, [None, 5])}), clock=lambda: now[0]) == Verdict("")


def test_examples_stand_in_for_what_cannot_be_made_up() -> None:
    """A model that takes only some texts is examined with those it came with."""
    known = {b"red": 1, b"green": 2, b"blue": 3}
    each: Kind = (lambda text: [np.array([known[one] for one in text], F)], TEXT, {"y": (F, [None])})
    example = (np.array([b"red", b"green", b"blue"], object),)
    assert "no made-up request could be run" in verdict(each).apart
    assert verdict(each, examples=[example]) == Verdict("")
    summed: Kind = (lambda text: [np.cumsum([known[one] for one in text]).astype(F)], *each[1:])
    assert verdict(summed, examples=[example]).apart


def test_rounding_is_told_from_a_dependence() -> None:
    """Where the last bits of a request decide its answer, another rounding explains another answer; elsewhere not."""
    near = (np.array([[1.0, 1.0 + 1e-7]], F),)
    assert rounding_explains(lambda x: [x.argmax(1)], near, [np.array([1])], [np.array([0])])
    far = (np.array([[1.0, 2.0]], F),)
    assert not rounding_explains(lambda x: [x.argmax(1)], far, [np.array([1])], [np.array([0])])
    assert not rounding_explains(lambda n: [n * 2], (np.array([3]),), [np.array([6])], [np.array([7])])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint32", "int64", "uint64"])
@pytest.mark.parametrize("output", [(F, [None]), ("string", [None]), (F, [None, None])])
@pytest.mark.parametrize("seed", SEEDS)
def test_no_integer_is_a_size_that_takes_the_memory(
    dtype: str, output: tuple[str, list[int | None]], seed: int
) -> None:
    """However long the trials go on: a model may repeat something that often."""
    seen: list[int] = []
    kind = output[0]

    def repeat(n: np.ndarray) -> list[np.ndarray]:
        seen.extend(map(int, n))
        if kind != F:
            made = np.empty(len(n), object)
            made[:] = [b"ab" * int(size) for size in n]
            return [made]
        return [n.astype(F).reshape(-1, *[1] * (len(output[1]) - 1))]

    given = signed({"n": (dtype, [None])}, {"y": output})
    assert examine(repeat, given, 64, seed=seed, clock=lambda: 0.0).apart == ""
    assert 2 < max(seen) <= 1000
