"""The limits of `client.session`: it only computes. It can reach neither files nor variables, unless the model's
settings allow that; and another user's worker has no session, unless the broker's settings allow it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import op_def_pb2
from tensorflow.python.client import pywrap_tf_session

import worker_client
from broker.models.effects.op_effects import kind_in_session
from broker.models.effects.signature_effects import _is_declared
from broker.models.lifecycle import ad_hoc, repository
from broker.models.lifecycle.ad_hoc import SHARE
from broker.models.spec import ModelSpec
from tests.brokers import TestBroker, serving
from tests.models.saved_models import export
from tests.workers import worker
from worker_client import BrokerError, Overloaded

NOBODY = 65534
X = np.ones((1, 3), np.float32)
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

NAME_OF_A_FILE = re.compile(
    r"(file|path|dir|ckpt|prefix|shard_dir|snapshot_path)(name)?s?|file_?patterns?|patterns?|(old_|new_)?vocab_file|"
    r"filename\w*|ckpt_path|chunk_file|checkpoint_prefixes|directory|logdir|db_uri|(server_)?address|data_source_name"
)
NO_FILE = {"RegexReplace", "RegexFullMatch"}
"""Whose `pattern` is none of names."""


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("session_rules")
    found = {kind: folder / kind for kind in ("stateful", "classic_stateful", "classic_reader")}
    export(found)
    return found


@pytest.fixture(scope="module")
def models(paths: dict[str, Path]) -> dict[str, Any]:
    closed = {kind: {"source": str(path)} for kind, path in paths.items()}
    return {**closed, "opened": {"source": str(paths["classic_stateful"]), "session_effects": True}}


@pytest.fixture(scope="module")
def broker(models: dict[str, Any]) -> Iterator[TestBroker]:
    with serving(models=models, tune="off", allow_uid=(NOBODY,) if os.geteuid() == 0 else ()) as running:
        Path(running.address).parent.chmod(0o711)
        yield running


def savers(path: Path) -> tuple[str, str]:
    """Of a SavedModel's own saver: the tensor that is fed the name of a file, the operation that restores from it."""
    found = tf.compat.v1.saved_model.load
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        saver = found(session, ["serve"], str(path)).saver_def
    return saver.filename_tensor_name, saver.restore_op_name


def saving(path: Path) -> str:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        name: str = tf.compat.v1.saved_model.load(session, ["serve"], str(path)).saver_def.save_tensor_name
    return name


def test_each_op_that_takes_a_name_of_a_file_is_known() -> None:
    """Of TensorFlow's own registry, so that one of the next release is not overlooked."""
    ops = op_def_pb2.OpList()
    ops.ParseFromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    taking = [op for op in ops.op if any(_is_name_of_a_file(each) for each in op.input_arg)]
    assert len(taking) > 40
    harmless = {op.name for op in taking if kind_in_session(op.name, _is_declared(op.name)) is None}
    assert harmless == NO_FILE


def _is_name_of_a_file(argument: Any) -> bool:
    return argument.type in (0, tf.string.as_datatype_enum) and bool(NAME_OF_A_FILE.fullmatch(argument.name))


def test_a_saver_writes_and_restores_nothing(
    broker: TestBroker, paths: dict[str, Path], tmp_path: Path
) -> None:
    """Not by the nodes that it has in the graph, nor by those that it has in functions."""
    with worker_client.connect(broker.address) as client:
        for model in ("stateful", "classic_stateful"):
            fed, restore = savers(paths[model])
            session = client.session(model)
            with pytest.raises(
                BrokerError, match=r"may not run .* (writes|reads) files.*session_effects=true"
            ):
                session.run(saving(paths[model]), {fed: str(tmp_path / "saved")})
            with pytest.raises(BrokerError, match="may not run"):
                session.run(restore, {fed: str(paths[model] / "variables/variables")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("model", "fetch", "what"),
    [
        ("classic_stateful", "counted:0", "op AssignAdd '.*' writes variable 'n'"),
        ("classic_stateful", "reset", "op Assign 'reset' writes variable 'n'"),
        ("classic_stateful", "scattered:0", "writes variable 'table'"),
        ("classic_stateful", "queued:0", "moves on queue 'queue'"),
        ("classic_reader", "read:0", "op ReadFile '.*' reads files"),
        ("classic_reader", "lines:0", "op TextLineDataset '.*' reads files"),
        ("classic_reader", "called:0", "calls Python"),
    ],
)
def test_what_a_session_may_not_run(broker: TestBroker, model: str, fetch: str, what: str) -> None:
    """One line that names the op, why, and the setting; the model is what it was."""
    with worker_client.connect(broker.address) as client:
        with pytest.raises(BrokerError, match=what) as refused:
            client.session(model).run(fetch, {"x:0": X})
        assert f"{model}.session_effects=true" in str(refused.value)
        assert "\n" not in str(refused.value)


def test_random_numbers_do_no_harm(broker: TestBroker) -> None:
    """Nor does what computes, beside what does not in the same graph."""
    with worker_client.connect(broker.address) as client:
        assert client.session("classic_stateful").run("noise/RandomUniform:0").shape == (3,)
        assert client.session("classic_stateful").run("inferred:0", {"x:0": X}).shape == (1, 3)


def test_a_setting_opens_them(broker: TestBroker) -> None:
    """As an app of TensorFlow 1 may want it that assigns through its session."""
    with worker_client.connect(broker.address) as client:
        session = client.session("opened")
        session.run("reset")
        assert session.run("counted:0", {"x:0": X}).tolist() == [8]


def test_a_worker_has_its_share_of_what_sessions_ask_for(broker: TestBroker) -> None:
    """The error names it; what it has goes on, others are served, and with the worker its share is free again."""

    tensors = ["x:0", "inferred:0", "read:0", "noisy:0", "noise/RandomUniform:0", "training:0"]
    sets = [list(order) for order in permutations(tensors)]

    def ask_for_too_much() -> str:
        with worker_client.connect(broker.address) as client:
            session = client.session("classic_stateful")
            for fetches in sets[:SHARE]:
                session.run(fetches, {"x:0": X})
            try:
                session.run(sets[SHARE], {"x:0": X})
            except Overloaded as error:
                assert session.run(sets[0], {"x:0": X})[0].tolist() == X.tolist()
                return str(error)
        return "none"

    for _ in range(2):
        with worker(ask_for_too_much) as child:
            assert (
                f"asked for {SHARE} different sets of feeds and fetches, its share of 1,000" in child.result()
            )
    with worker_client.connect(broker.address) as client:
        assert client.session("classic_stateful").run("inferred:0", {"x:0": X}).shape == (1, 3)


def test_callables_are_limited_and_make_room(paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """While one worker holds all of them, the next is refused. When that worker is gone, its oldest one makes room."""
    monkeypatch.setattr(ad_hoc, "MOST", 2)
    loaded = repository.load([ModelSpec("m", str(paths["classic_stateful"]), intra_op_threads=1)], warm=False)
    try:
        first = loaded.ad_hoc("m", ("x:0",), ("inferred:0",), "one")[0]
        loaded.ad_hoc("m", ("x:0",), ("read:0",), "one")
        with pytest.raises(Overloaded, match="asked for 2 different sets"):
            loaded.ad_hoc("m", ("x:0",), ("noisy:0",), "other")
        loaded.release("one")
        *_, one_went = loaded.ad_hoc("m", ("x:0",), ("noisy:0",), "other")
        assert one_went
        assert first not in loaded.table()
        assert loaded.ad_hoc("m", ("x:0",), ("inferred:0",), "other")[0].id != first.id
    finally:
        loaded.close()


def as_nobody(action: Callable[[worker_client.Client], Any], address: str) -> str:
    """What comes of it in a worker of another user."""
    with ExitStack() as stack:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        try:
            return str(action(stack.enter_context(worker_client.connect(address, timeout=30))))
        except BrokerError as error:
            return f"{type(error).__name__}: {error}"


def _infer(client: worker_client.Client) -> Any:
    return client.session("opened").run("inferred:0", {"x:0": X}).shape


@root_only
def test_another_users_worker_has_no_session(broker: TestBroker) -> None:
    """It calls the signatures; the error names the setting."""
    with worker(as_nobody, _infer, broker.address) as child:
        assert re.match(
            "BrokerError: workers of uid 65534 may not run sessions.*--allow-sessions", child.result()
        )
    with worker(as_nobody, lambda client: client.model("opened").predict(X).shape, broker.address) as child:
        assert child.result() == "(1,)"


@root_only
def test_another_users_worker_cannot_call_what_a_session_asked_for(broker: TestBroker) -> None:
    """Another user's worker cannot call a session's callable by guessing its number."""
    with worker_client.connect(broker.address) as client:
        session = client.session("opened")
        before = session.run("counted:0", {"x:0": X})
        reply, _ = client._connection._link.request(
            {"op": "ad_hoc", "model": "opened", "feeds": ["x:0"], "fetches": ["counted:0"]}, 30
        )

        def guess(theirs: worker_client.Client) -> Any:
            model = theirs.model("opened", signature="count")
            bound = model.bind(model.deadline(30))
            model._binding = bound._replace(id=reply["id"])
            return model.predict(X)

        with worker(as_nobody, guess, broker.address) as child:
            assert re.match("ModelNotFound: .*belongs to a session", child.result())
        assert session.run("counted:0", {"x:0": X}) == before + 1


@root_only
def test_others_may_be_allowed_sessions(models: dict[str, Any], paths: dict[str, Path]) -> None:
    """Which then can do what the broker's own workers can, and no more."""
    with serving(models=models, tune="off", allow_uid=(NOBODY,), allow_sessions=True) as broker:
        Path(broker.address).parent.chmod(0o711)
        with worker(as_nobody, _infer, broker.address) as child:
            assert child.result() == "(1, 3)"
        with worker(as_nobody, lambda c: c.session("classic_stateful").run("reset"), broker.address) as child:
            assert "may not run 'reset'" in child.result()
        with worker(as_nobody, lambda c: c.session("opened").run("reset"), broker.address) as child:
            assert child.result() == "None"
