"""A model's first runs use the examples that it ships for TensorFlow Serving, or those of an .npz file."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broker.models.errors import ModelLoadError
from broker.models.lifecycle import repository
from broker.models.sources import session
from broker.models.sources.session import SessionModel
from broker.models.spec import ModelSpec
from broker.models.tfs_messages import PredictionLog
from tests.models import model_files

RECORDS = Path("assets.extra", "tf_serving_warmup_requests")


def load(path: Path, **settings: Any) -> SessionModel:
    return session.load(ModelSpec("picky", str(path), intra_op_threads=1, **settings))


def test_shipped_requests_are_read(saved_models, caplog):
    """Each for its signature; what cannot be used is told with the reason, and does no harm."""
    with caplog.at_level(logging.WARNING, "onesession.models"):
        model = load(saved_models["picky"])
    try:
        assert [feeds[0].tolist() for feeds in model.examples["serving_default"]] == [[2, 3], [1]]
        assert (
            "number 3: signature 'serving_default': the input 'i' is int64[?], not float64[1]" in caplog.text
        )
        assert "and 1 more" in caplog.text
    finally:
        model.close()


def test_examples_are_what_the_model_is_warmed_up_with(saved_models):
    """A model for which zeros are illegal is measured all the same, in every size of batch that is allowed."""
    spec = ModelSpec("picky", str(saved_models["picky"]), intra_op_threads=1, allowed_batch_sizes=(1, 2, 8))
    loaded = repository.load([spec])
    try:
        cost = loaded.entry("picky").cost
        assert cost.note is None
        assert cost.p50_us is not None
        assert [rows for rows, _ in cost.batches] == [2, 8]
    finally:
        loaded.close()


def test_tf_examples_become_texts(saved_models):
    """A classify request's examples are fed serialised, each merged with what they share."""
    model = load(saved_models["picky"])
    try:
        (feeds,) = model.examples["lengths"]
        (length,) = model.callable("lengths")(*feeds)
        assert length.tolist() == [len("one") + 3, len("three") + 3]
    finally:
        model.close()


def test_an_npz_file_goes_first(saved_models, tmp_path):
    """By the names of the inputs, or those of one signature's."""
    np.savez(tmp_path / "any.npz", i=np.array([3]))
    model = load(saved_models["picky"], warmup=tmp_path / "any.npz")
    model.close()
    assert [feeds[0].tolist() for feeds in model.examples["serving_default"]] == [[3], [2, 3], [1]]
    np.savez(tmp_path / "own.npz", **{"gather/i": np.array([2]), "positive/x": np.float32([7])})
    model = load(saved_models["failing"], warmup=tmp_path / "own.npz")
    model.close()
    assert [feeds[0].tolist() for feeds in model.examples["positive"]] == [[7]]


def test_an_npz_file_that_fits_nothing(saved_models, tmp_path):
    """Stops the load, as somebody has asked for it: with what is there and what is wanted."""
    np.savez(tmp_path / "wrong.npz", j=np.array([3]))
    with pytest.raises(ModelLoadError) as caught:
        load(saved_models["picky"], warmup=tmp_path / "wrong.npz")
    assert f"its warmup file {tmp_path / 'wrong.npz'} has j, which fits no signature" in str(caught.value)
    assert "serving_default: the input 'i' is missing" in str(caught.value)
    for name, content in (("gone.npz", None), ("noise.npz", b"PK\x03\x04noise")):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelLoadError, match=f"its warmup file .*{name} cannot be read: "):
            load(saved_models["picky"], warmup=tmp_path / name)


def test_records_of_other_kinds(saved_models, tmp_path, caplog):
    """The last request of a stream is used; what is none is told with its number."""
    path = shutil.copytree(saved_models["picky"], tmp_path / "picky", ignore=lambda *_: [RECORDS.parts[0]])
    stream = PredictionLog()
    for numbers in ([1], [2, 3]):
        log = PredictionLog.FromString(model_files.predict_log("", {"i": np.array(numbers)}))
        stream.predict_streamed_log.request.append(log.predict_log.request)
    empty = PredictionLog(predict_streamed_log={}).SerializeToString()
    model_files.write_warmup_requests(path, [b"\xffnoise", stream.SerializeToString(), b"", empty])
    with caplog.at_level(logging.WARNING, "onesession.models"):
        model = load(path)
    model.close()
    assert [feeds[0].tolist() for feeds in model.examples["serving_default"]] == [[2, 3]]
    assert "number 1: it is not a PredictionLog" in caplog.text
    assert "and 2 more" in caplog.text


@pytest.mark.parametrize("content", [b"no records at all", b""])
def test_a_damaged_file_of_requests(saved_models, tmp_path, content, caplog):
    """Is told, and the model loaded without."""
    path = shutil.copytree(saved_models["picky"], tmp_path / "picky")
    (path / RECORDS).write_bytes(content)
    with caplog.at_level(logging.WARNING, "onesession.models"):
        model = load(path)
    model.close()
    assert not model.examples
    assert ("cannot be used" in caplog.text) is bool(content)
