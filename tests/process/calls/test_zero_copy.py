"""`request`: inputs written and outputs read where they lie in shared memory."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.brokers import TestBroker
from worker_client import BrokerError, Client, InvalidInput, ModelFailed

MODELS = ("double", "mixed", "picky", "produce", "echo_float32", "add")


def in_shared_memory(array: np.ndarray) -> bool:
    """Whether the array's bytes lie in a mapping of one of our segments."""
    start = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        low, high = (int(n, 16) for n in re.match(r"(\w+)-(\w+)", line).groups())  # type: ignore[union-attr]
        if low <= start and start + array.nbytes <= high:
            return "/memfd:onesession." in line
    return False


def test_inputs_are_written_and_outputs_read_in_place(client: Client) -> None:
    """The views of inputs and results lie in the channel's segment, each on a 64-byte line."""
    with client.model("double").request(rows=3) as request:
        request["x"][...] = 4
        result = request.run()
        for view in (request["x"], result["y"]):
            assert in_shared_memory(view)
            assert view.__array_interface__["data"][0] % 64 == 0
        np.testing.assert_array_equal(result["y"], np.full((3, 4), 8))


def test_grown_regions_are_shared_memory_too(client: Client) -> None:
    """Regions that outgrew the first segment are written and read in place as well."""
    with client.model("echo_float32").request(rows=None, shapes={"x": (1 << 20,)}) as request:
        request["x"][...] = 1
        y = request.run()["y"]
        assert in_shared_memory(request["x"])
        assert in_shared_memory(y)


def test_results_cannot_be_written(client: Client) -> None:
    """Results are read-only views."""
    with client.model("double").request() as request:
        request["x"] = 1
        y = request.run()["y"]
        with pytest.raises(ValueError, match="read-only"):
            y[...] = 0


def test_a_request_runs_many_times(client: Client) -> None:
    """One block may run again and again; a result shows the memory of the last run."""
    with client.model("double").request(rows=2) as request:
        for value in range(50):
            request["x"] = value
            assert (request.run()["y"] == 2 * value).all()


def test_results_are_a_mapping(client: Client) -> None:
    """Results have names, a length and an order, and say what they have when asked for something else."""
    with client.model("mixed").request(rows=2) as request:
        request["a"], request["b"], request["flag"] = 1, 0.5, True
        result = request.run()
        assert (list(result), len(result)) == (["total", "swapped", "none"], 3)
        assert result["total"].tolist() == [2.5, 2.5]
        with pytest.raises(KeyError, match="no output 'x'; there are total, swapped, none"):
            result["x"]
        with pytest.raises(KeyError, match="no input 'total'; there are a, b, flag"):
            request["total"] = 1
    with pytest.raises(KeyError, match="no input 'a'; a request has inputs only inside its block"):
        request["a"]


def test_a_failed_run_leaves_the_request_usable(client: Client) -> None:
    """After ModelFailed the same block may put its inputs right and run again."""
    with client.model("picky").request() as request:
        request["x"] = 13
        with pytest.raises(ModelFailed, match="unlucky row 0 of 1"):
            request.run()
        request["x"] = 1
        assert (request.run()["y"] == 2).all()


def test_outside_its_block_a_request_does_nothing(client: Client) -> None:
    """`run` before or after the `with` block raises."""
    request = client.model("double").request()
    with pytest.raises(BrokerError, match="only inside its `with` block"):
        request.run()
    with request:
        request["x"] = 1
        request.run()
    with pytest.raises(BrokerError, match="only inside its `with` block"):
        request.run()


def test_scalars_and_whole_shapes(client: Client, broker: TestBroker) -> None:
    """Scalar inputs need no shape; `shapes=()` is a whole shape, too."""
    with client.model("add").request() as request:
        request["a"], request["b"] = 2, 3
        assert request.run()["sum"] == 5
    with client.model("echo_float32").request(shapes={"x": ()}) as request:
        request["x"] = 7
        assert request.run()["y"].shape == ()


@pytest.mark.parametrize(
    ("model", "arguments", "says"),
    [
        ("double", {"rows": -1}, "x"),
        ("double", {"rows": None}, r"input 'x' is float32\[\?, 4\]; give its whole shape"),
        ("double", {"shapes": {"y": (1, 4)}}, "no input y; it has x"),
        ("double", {"shapes": {"x": (1, 5)}}, r"expects shape \[\?, 4\], got \[1, 5\]"),
        ("double", {"rows": 1 << 62}, "x"),
        ("double", {"rows": 1 << 70}, "x"),
        ("double", {"rows": 1.5}, "x"),
        ("echo_float32", {"shapes": {"x": (1,) * 9}}, "rank 9"),
        ("echo_float32", {}, "give its whole shape"),
        ("echo_float32", {"shapes": {"x": (0, 1 << 70)}}, "x"),
    ],
)
def test_shapes_that_cannot_be_are_refused(
    client: Client, model: str, arguments: dict[str, object], says: str
) -> None:
    """A shape that is negative, open, wrong, of too high a rank or too large is InvalidInput that names the input."""
    with pytest.raises(InvalidInput, match=says):
        client.model(model).request(**arguments)  # type: ignore[arg-type]
