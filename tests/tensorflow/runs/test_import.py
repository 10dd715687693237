"""What importing TensorFlow does to the process, in interpreters of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata

import pytest

from broker.models.tf import keras_later
from tests.models.saved_models import ROOT


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=True,
    )


def test_a_start_is_silent(mlp_path):
    """Importing TensorFlow, loading and running a model write nothing to the terminal."""
    code = f"""
from broker.models.lifecycle.repository import load
from broker.models.spec import ModelSpec
load([ModelSpec("mlp", {str(mlp_path)!r})]).close()
"""
    done = run(code)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.slow
def test_a_log_level_of_the_users_is_left_alone():
    """A user who sets TF_CPP_MIN_LOG_LEVEL sees TensorFlow's messages."""
    code = "import os, broker.models.sources.session; print(os.environ['TF_CPP_MIN_LOG_LEVEL'])"
    done = run(code, TF_CPP_MIN_LOG_LEVEL="0")
    assert done.stdout == "0\n"
    assert "oneDNN" in done.stderr


@pytest.mark.slow
def test_a_process_that_has_tensorflow_keeps_its_log_level():
    """Adopting models in a process with TensorFlow changes nothing about its logging."""
    code = "import tensorflow, os, broker.models.sources.session; print('TF_CPP_MIN_LOG_LEVEL' in os.environ)"
    assert run(code).stdout == "False\n"


def test_python_models_need_no_tensorflow():
    """A broker of Python models never imports it."""
    code = """
import sys
from broker.models.lifecycle.repository import load
from broker.models.spec import ModelSpec
load([ModelSpec("echo", "broker.models.python.echo:echo")]).close()
print("tensorflow" in sys.modules)
"""
    assert run(code).stdout == "False\n"


def test_a_missing_tensorflow_is_told_with_the_remedy(mlp_path):
    """Without the package the start fails with what to install."""
    code = f"""
import sys
sys.modules["tensorflow"] = None
from broker.models.errors import ModelLoadError
from broker.models.lifecycle.repository import load
from broker.models.spec import ModelSpec
try:
    load([ModelSpec("mlp", {str(mlp_path)!r})])
except ModelLoadError as error:
    print(error)
"""
    text = run(code).stdout
    assert text.startswith(
        f"model 'mlp' from {str(mlp_path)!r} cannot be loaded: TensorFlow cannot be imported"
    )
    assert text.endswith('pip install "onesession[tensorflow]"\n')


# -- Keras, which TensorFlow's import takes along ------------------------------------------------------------------


def test_keras_is_left_out_until_it_is_used():
    """All workers wait for this import when a broker is started again; nothing of it is left when it is over."""
    code = """
import gc, sys
before = list(sys.meta_path)
import broker.models.sources.session
print("keras" in sys.modules, "sklearn" in sys.modules, gc.isenabled())
print({type(finder).__name__ for finder in sys.meta_path if finder not in before} & {"_NotForTensorFlow"})
"""
    assert run(code).stdout == "False False True\nset()\n"


def test_a_models_code_finds_keras_by_any_name():
    """A model's code finds Keras by any name, as if it had come with TensorFlow, whichever name it uses first."""
    ways = [
        "keras = tf.keras",
        "import keras",
        "from tensorflow import keras",
        "import tensorflow.keras.layers; keras = tensorflow.keras",
        "from tensorflow.keras import layers, optimizers; keras = tf.keras",
        "import keras.src.optimizers",
    ]
    code = f"""
import os, sys
from broker.models.tf.runtime import tf
for way in {ways!r}:
    if not (child := os.fork()):
        exec(way)
        print(keras.layers.Dense(2)(tf.ones((3, 4))).shape, keras.optimizers.Adam.__name__, keras.backend.backend())
        sys.exit(tf.optimizers.Adam is not keras.optimizers.Adam)
    assert os.waitpid(child, 0)[1] == 0, way
"""
    assert run(code).stdout == "(3, 2) Adam tensorflow\n" * len(ways)


def test_whoever_asks_for_keras_meanwhile_gets_it():
    """Code that something has run at the end of TensorFlow's import: only TensorFlow itself goes without."""
    code = """
import importlib.abc, importlib.util, sys, threading

class AtTheEnd(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    "As tools do that watch what a program uses."
    def find_spec(self, name, path=None, target=None):
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        self.inner, spec.loader = spec.loader, self
        return spec
    def create_module(self, spec):
        return self.inner.create_module(spec)
    def exec_module(self, module):
        self.inner.exec_module(module)
        print("keras" in sys.modules)
        import keras.src.optimizers
        print(module.keras.optimizers.Adam.__name__)

sys.meta_path.insert(0, AtTheEnd())
import broker.models.sources.session
"""
    assert run(code).stdout == "False\nAdam\n"


def test_keras_is_no_less_there_where_it_was_before():
    """Code that has imported Keras before sees no difference."""
    code = """
import keras, sys
import broker.models.sources.session
from keras.src import optimizers
print(sys.modules["keras.src.optimizers"] is optimizers)
"""
    assert run(code).stdout == "True\n"


def test_keras_2_is_taken_along(monkeypatch):
    """It tells TensorFlow of its optimizers, which SavedModels may name: TF_USE_LEGACY_KERAS, or an old version."""
    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    assert keras_later._tells_nothing()
    for value in ("1", "true", "True"):
        monkeypatch.setenv("TF_USE_LEGACY_KERAS", value)
        assert not keras_later._tells_nothing()
    monkeypatch.delenv("TF_USE_LEGACY_KERAS")
    monkeypatch.setattr(metadata, "version", lambda _name: "2.15.0")
    assert not keras_later._tells_nothing()


def test_keras_tells_tensorflow_nothing():
    """The reason why it can come later: with this version, too, TensorFlow knows the same with and without it."""
    code = """
from broker.models.tf.runtime import tf
from tensorflow.python.framework import ops, tensor_conversion_registry, type_spec_registry
from tensorflow.python.saved_model import revived_types
from tensorflow.python.saved_model.registration import registration

def known():
    return [
        list(revived_types._REVIVED_TYPE_REGISTRY),
        list(registration._class_registry._registered_names),
        list(registration._saver_registry._registered_names),
        list(ops.gradient_registry.list()),
        list(type_spec_registry._TYPE_SPEC_TO_NAME),
        list(tensor_conversion_registry._tensor_conversion_func_registry),
    ]

before = known()
graph = tf.Graph()
with graph.as_default():
    import keras
print(known() == before, graph.get_operations())
"""
    assert run(code).stdout == "True []\n"
