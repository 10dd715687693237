"""A model whose ops come from a library of its user's: built here, which takes a compiler some seconds."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import worker_client
from broker.models.errors import ModelLoadError
from broker.models.sources import session
from broker.models.spec import ModelSpec
from broker.models.tf.runtime import tf
from tests.brokers import serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

EXPORT = """
import sys
import tensorflow as tf

ops = tf.load_op_library(sys.argv[1])
module = tf.Module()
module.serve = tf.function(
    lambda x: {"y": ops.onesession_triple(x=x)}, input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")]
)
tf.saved_model.save(module, sys.argv[2], signatures=module.serve)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no g++")
    made = tmp_path_factory.mktemp("ops") / "triple_op.so"
    flags = [*tf.sysconfig.get_compile_flags(), *tf.sysconfig.get_link_flags()]
    source = Path(__file__).with_name("triple_op.cc")
    subprocess.run([compiler, "-shared", "-fPIC", "-w", str(source), "-o", str(made), *flags], check=True)
    return made


@pytest.fixture(scope="module")
def model(library: Path) -> Path:
    made = library.parent / "model"
    subprocess.run([sys.executable, "-c", EXPORT, str(library), str(made)], capture_output=True, check=True)
    return made


def test_a_model_with_ops_of_its_own(library, model):
    """Without the library the error names the op and the setting; with it the model is served."""
    with pytest.raises(ModelLoadError) as caught:
        session.load(ModelSpec("triple", str(model), intra_op_threads=1))
    assert "its graph needs the op 'OnesessionTriple', which this TensorFlow (" in str(caught.value)
    assert "--load-op-library PATH (the setting op_libraries)" in str(caught.value)
    x = np.float32([[1, 2], [3, 4]])
    spec = {"source": model, "op_libraries": [library], "intra_op_threads": 1}
    with (
        serving(models={"triple": spec, "again": spec}) as broker,
        worker_client.connect(broker.address) as client,
    ):
        np.testing.assert_array_equal(client.model("triple").predict(x), x * 3)
        np.testing.assert_array_equal(client.model("again").predict(x), x * 3)
