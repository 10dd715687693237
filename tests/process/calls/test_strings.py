"""Strings through a real broker: every form of them, in every kind of call and batch."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Iterator

import numpy as np
import pytest

import worker_client
from tests.brokers import TestBroker, serving, wait_until
from tests.process.text_models import BAD, SOURCES
from tests.workers import in_child
from worker_client import Client, InvalidInput, ModelFailed
from worker_client.wire.layout import WORD

SETTINGS = {
    "join": {"pad_variable_length": True},
    "shout": {"max_batch_size": 8, "allowed_batch_sizes": [4, 8]},
}


@pytest.fixture(scope="module")
def broker() -> Iterator[TestBroker]:
    models = {name: {"source": source, **SETTINGS.get(name, {})} for name, source in SOURCES.items()}
    with serving(models=models) as running:
        yield running


def objects(*values: object) -> np.ndarray:
    made = np.empty(len(values), object)
    made[:] = values
    return made


def same(got: np.ndarray, *wanted: bytes) -> None:
    assert got.dtype == object
    assert got.tolist() == list(wanted)


def random_strings(rng: np.random.Generator, count: int, most: int = 60) -> np.ndarray:
    return objects(*[rng.bytes(int(size)) for size in rng.integers(0, most, count)])


# -- forms of call -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        ["a", "bc", "ü"],
        [b"a", "bc", "ü".encode()],
        np.array(["a", "bc", "ü"]),
        np.array([b"a", b"bc", "ü".encode()]),
        objects("a", b"bc", np.str_("ü")),
    ],
    ids=repr,
)
def test_every_form_of_strings_is_taken(client: Client, given: object) -> None:
    """Lists and arrays of bytes, of str (as UTF-8), of both; the answer is bytes objects, as TensorFlow's are."""
    same(client.model("echo").predict(given), b"a", b"bc", "ü".encode())
    np.testing.assert_array_equal(client.model("measure").predict(given), [1, 2, 2])


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3), (1,) * 8])
def test_every_rank_comes_back(client: Client, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    """Tensors of rank 0 to 8, empty ones and empty strings keep shape and contents."""
    x = random_strings(rng, int(np.prod(shape))).reshape(shape)
    y = client.model("echo").predict(x)
    assert y.shape == shape
    assert y.tolist() == x.tolist()


def test_sizes_alternate_on_one_slot(client: Client, rng: np.random.Generator) -> None:
    """From nothing to megabytes and back, in few and many strings: the slot grows, and no answer is another's."""
    model = client.model("echo")
    for count, most in ((1, 5), (1000, 50), (0, 1), (3, 1 << 20), (1, 2), (20_000, 3), (2, 2)):
        x = random_strings(rng, count, most)
        assert model.predict(x).tolist() == x.tolist()


def test_an_output_whose_size_is_only_known_after_the_run(client: Client) -> None:
    """The output region grows to what the strings take."""
    for count in (3, 5000, 0, 10, 20_000):
        words = client.model("produce").predict({"n": count})["words"]
        assert [len(word) for word in words] == [number % 100 for number in range(count)]


def test_answers_are_private(client: Client) -> None:
    """The caller may write to what it got, and the next call does not change it."""
    model = client.model("echo")
    first = model.predict(["one", "two"])
    first[0] = b"mine"
    same(model.predict(["three", "four"]), b"three", b"four")
    same(first, b"mine", b"two")


def test_strings_in_batches_of_keras(client: Client, rng: np.random.Generator) -> None:
    """`batch_size` cuts them as it cuts numbers, and `steps` end early."""
    x = random_strings(rng, 10)
    lengths = [len(one) for one in x]
    assert client.model("measure").predict(x, batch_size=3).tolist() == lengths
    assert client.model("measure").predict(x.tolist(), batch_size=3, steps=2).tolist() == lengths[:6]


def test_strings_beside_numbers(client: Client, rng: np.random.Generator) -> None:
    """Each tensor of a request has its own place."""
    x, label = rng.random((3, 4), np.float32), random_strings(rng, 3)
    y = client.model("mixed").predict({"label": label, "x": x})
    np.testing.assert_array_equal(y["y"], x * 2)
    assert y["label"].tolist() == label.tolist()


def test_futures_and_map(client: Client, rng: np.random.Generator) -> None:
    """Calls in flight side by side; what the caller changes after `submit` is not sent."""
    model = client.model("echo")
    batches = [random_strings(rng, count) for count in (1, 5, 0, 30)]
    for x, y in zip(batches, model.map(batches)):
        assert y.tolist() == x.tolist()
    x = objects(b"as it was")
    future = model.submit(x)
    x[0] = b"changed"
    same(future.result(30), b"as it was")


def test_in_an_event_loop(broker: TestBroker) -> None:
    """`await predict`, and a request in place."""

    async def call() -> None:
        client = worker_client.aio.connect(broker.address)
        same(await client.model("echo").predict(["a", "b" * 9000]), b"a", b"b" * 9000)
        async with client.model("mixed").request(rows=2) as request:
            request["x"][...] = 1.5
            for text in ("short", "long" * 5000):
                request["label"] = [text, "ü"]
                result = await request.run()
                same(result["label"], text.encode(), "ü".encode())
                np.testing.assert_array_equal(result["y"], np.full((2, 4), 3))
        await client.close()

    asyncio.run(call())


def test_a_request_in_place(client: Client) -> None:
    """Strings are assigned as a whole or one by one, and read again; numbers beside them stay views, also when the
    strings need a larger slot."""
    with client.model("mixed").request(rows=2) as request:
        x = request["x"]
        x[...] = [[1] * 4, [2] * 4]
        assert request["label"].tolist() == [b"", b""]
        request["label"] = ["one", b"two"]
        request["label"][1] = "drei"
        same(request.run()["label"], b"one", b"drei")
        for size in (5_000, 50_000, 10):  # a larger slot, a larger one still, and no other
            request["label"] = ["a" * size, "b"]
            x[1, 1] = size
            result = request.run()
            same(result["label"], b"a" * size, b"b")
            np.testing.assert_array_equal(result["y"], [[2] * 4, [4, 2 * size, 4, 4]])
        request["label"][0] = 7
        with pytest.raises(InvalidInput, match=r"input 'label' expects string\[\?\].*element \[0\] is int"):
            request.run()


def test_no_slot_is_lost_by_requests_that_grow(broker: TestBroker) -> None:
    """Both slots of such a request are free again after it: as many as there may be can be used once more."""
    with worker_client.connect(broker.address) as client:
        model = client.model("mixed")
        for size in range(1, 200):
            with model.request(rows=1) as request:
                request["x"] = 1
                request["label"] = ["a" * (size * 300)]
                assert request.run()["label"][0] == b"a" * (size * 300)


def test_in_forked_workers(broker: TestBroker, client: Client) -> None:
    """A handle made before the fork."""
    model = client.model("echo")
    assert in_child(lambda: model.predict(["from a child"]).tolist()) == [b"from a child"]


@pytest.mark.parametrize(
    ("model", "inputs", "says"),
    [
        ("measure", ["a", 7], r"input 'text' expects string\[\?\], bytes or str; .* element \[1\] is int"),
        ("measure", np.array([1.5]), r"the ndarray given cannot be converted: its dtype is float64"),
        ("measure", [["a"], ["b", "c"]], r"element \[0\] is list"),
        ("measure", [["a"]], r"expects shape \[\?\], got \[1, 1\]"),
        ("measure", "one", r"pass x\[None\] for one row"),
        ("measure", ["\ud800"], "surrogates not allowed"),
        ("measure", None, "element .* is NoneType"),
        ("mixed", {"x": np.array([["a"] * 4]), "label": ["a"]}, "input 'x' expects dtype float32, got str"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_sent(
    client: Client, broker: TestBroker, model: str, inputs: object, says: str
) -> None:
    """InvalidInput names the input, what was expected and what came."""
    before = broker.counters(model)
    with pytest.raises(InvalidInput, match=says):
        client.model(model).predict(inputs)
    assert broker.counters(model) == before


@pytest.mark.parametrize(
    ("how", "words"), [(0, [b"a", b"b", "ü".encode()]), (1, [b"a", b"bc"]), (2, [b"a", b"bc"])]
)
def test_what_a_python_model_may_answer(client: Client, how: int, words: list[bytes]) -> None:
    """Lists, fixed-width arrays, str."""
    same(client.model("answer").predict({"how": how})["y"], *words)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (3, r"output 'y' cannot be sent: element \[1\] is int, not bytes or str"),
        (4, r"returned 'y' as int64, but its signature says string\[\?\]"),
        (5, r"element \[1\] is list"),
    ],
)
def test_what_a_python_model_may_not_answer(client: Client, how: int, says: str) -> None:
    """ModelFailed says which element it is, and what."""
    with pytest.raises(ModelFailed, match=says):
        client.model("answer").predict({"how": how})


# -- batches -----------------------------------------------------------------------------------------------------------


def behind_the_gate(broker: TestBroker, client: Client, number: int, texts: list[list[str]]) -> list[object]:
    """The futures of these requests, which have waited together behind one that was in the model."""
    model = client.model("shout")
    first = model.submit({"number": [number], "text": ["first"]})
    broker.gate.wait_for(number)
    futures = [model.submit({"number": [0] * len(text), "text": text}) for text in texts]
    rows = sum(map(len, texts))
    wait_until(lambda: broker.status()["queues"]["shout"]["rows"] >= rows, "all of them to wait")
    broker.gate.open(number)
    assert first.result(30)["shout"].tolist() == [b"FIRST"]
    return futures


def test_requests_are_joined_padded_and_cut_apart(broker: TestBroker, client: Client) -> None:
    """Seven rows of four requests run as a batch of eight, and each gets its own."""
    texts = [["a"], ["b" * 5000, ""], ["c", "ü", "e"], ["f"]]
    for text, future in zip(texts, behind_the_gate(broker, client, 1, texts)):
        result = future.result(30)  # type: ignore[attr-defined]
        assert result["shout"].tolist() == [
            one.upper().encode() if one != "ü" else one.encode() for one in text
        ]
        assert result["length"].tolist() == [len(one.encode()) for one in text]
        assert set(result["rows_in_batch"].tolist()) == {8}


def test_a_bad_row_fails_alone(broker: TestBroker, client: Client) -> None:
    """Requests of a batch that fails are run one by one."""
    good, bad, other = behind_the_gate(broker, client, 2, [["a"], [BAD.decode(), "b"], ["c"]])
    assert good.result(30)["shout"].tolist() == [b"A"]  # type: ignore[attr-defined]
    assert other.result(30)["shout"].tolist() == [b"C"]  # type: ignore[attr-defined]
    with pytest.raises(ModelFailed, match="unlucky row 0 of"):
        bad.result(30)  # type: ignore[attr-defined]


def test_a_request_larger_than_a_batch_runs_in_parts(client: Client, rng: np.random.Generator) -> None:
    """Its rows come back in order, whatever the parts."""
    text = random_strings(rng, 61)
    result = client.model("shout").predict({"number": np.zeros(61, np.int64), "text": text})
    assert result["shout"].tolist() == [one.upper() for one in text]
    assert result["length"].tolist() == [len(one) for one in text]
    assert result["rows_in_batch"].max() == 8


def test_rows_of_different_lengths_are_padded_with_empty_strings(client: Client) -> None:
    """Along an axis that is free; and cut again, so that no answer depends on the company."""
    model = client.model("join")
    rows = [[["a", "b"]], [["c"]], [["d", "e", "f"], ["g", "h", "i"]]]
    for row, result in zip(rows, model.map(rows)):
        assert result["words"].tolist() == [[one.encode() for one in each] for each in row]
        for joined, each in zip(result["joined"], row):
            assert joined.rstrip(b",") == ",".join(each).encode()


# -- hostile workers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([64, 5, 4], "input 'text' cannot be read: a string ends before it begins"),
        ([23, 1, 2], "do not lie behind their words"),
        ([64, 1, 2**63], "do not lie behind their words"),
    ],
)
@pytest.mark.parametrize("model", ["measure", "shout"])
def test_words_that_no_client_writes(broker: TestBroker, model: str, values: list[int], says: str) -> None:
    """The broker answers InvalidInput, whether it runs on the intake or on a thread of its own, and goes on. (Two
    strings, whose place counts from their words here.)"""
    with worker_client.connect(broker.address) as client:
        handle = client.model(model)
        bound = handle.bound_by(None)[0]
        inputs = {"number": [0, 0], "text": ["a", "b"]} if model == "shout" else ["a", "b"]
        tensors, layout = bound.validator.prepare(inputs)
        slot = bound.channel.claim(layout.nbytes, handle.deadline(30))
        for view, tensor in zip(slot.input.write_layout(layout), tensors):
            view[...] = tensor
        offset = layout.placements[-1].offset
        words = array("Q", [offset + values[0], *values[1:]])
        slot.input.memory[offset : offset + 3 * WORD] = words.tobytes()
        bound.channel.submit(slot, bound.id, handle.deadline(30))
        bound.channel.wait(slot, handle.deadline(30))
        with pytest.raises(InvalidInput, match=says):
            slot.result()
        bound.channel.release(slot)
        answer = handle.predict(inputs)
        assert len(answer["shout"] if model == "shout" else answer) == 2


def test_one_hostile_request_of_a_batch_fails_alone(broker: TestBroker, client: Client) -> None:
    """What waits with it is run."""
    model = client.model("shout")
    first = model.submit({"number": [3], "text": ["first"]})
    broker.gate.wait_for(3)
    good = model.submit({"number": [0], "text": ["good"]})
    bound = model.bound_by(None)[0]
    tensors, layout = bound.validator.prepare({"number": [0], "text": ["evil"]})
    slot = bound.channel.claim(layout.nbytes, model.deadline(30))
    for view, tensor in zip(slot.input.write_layout(layout), tensors):
        view[...] = tensor
    offset = layout.placements[-1].offset
    slot.input.memory[offset + WORD : offset + 2 * WORD] = array("Q", [2**60]).tobytes()
    bound.channel.submit(slot, bound.id, model.deadline(30))
    wait_until(lambda: broker.status()["queues"]["shout"]["rows"] >= 2, "both to wait")
    broker.gate.open(3)
    bound.channel.wait(slot, model.deadline(30))
    with pytest.raises(InvalidInput, match="input 'text' cannot be read"):
        slot.result()
    bound.channel.release(slot)
    assert first.result(30)["shout"].tolist() == [b"FIRST"]
    assert good.result(30)["shout"].tolist() == [b"GOOD"]
