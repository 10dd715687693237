"""What importing TensorFlow does to the process, in interpreters of their own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.saved_models import ROOT


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
from broker.models.repository import load
from broker.models.spec import ModelSpec
load([ModelSpec("mlp", {str(mlp_path)!r})]).close()
"""
    done = run(code)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.slow
def test_a_log_level_of_the_users_is_left_alone():
    """Who sets TF_CPP_MIN_LOG_LEVEL sees what TensorFlow says."""
    code = "import os, broker.models.session; print(os.environ['TF_CPP_MIN_LOG_LEVEL'])"
    done = run(code, TF_CPP_MIN_LOG_LEVEL="0")
    assert done.stdout == "0\n"
    assert "oneDNN" in done.stderr


@pytest.mark.slow
def test_a_process_that_has_tensorflow_keeps_its_log_level():
    """Adopting models in a process with TensorFlow changes nothing about its logging."""
    code = "import tensorflow, os, broker.models.session; print('TF_CPP_MIN_LOG_LEVEL' in os.environ)"
    assert run(code).stdout == "False\n"


def test_python_models_need_no_tensorflow():
    """A broker of Python models never imports it."""
    code = """
import sys
from broker.models.repository import load
from broker.models.spec import ModelSpec
load([ModelSpec("echo", "broker.models.echo:echo")]).close()
print("tensorflow" in sys.modules)
"""
    assert run(code).stdout == "False\n"


def test_a_missing_tensorflow_is_told_with_the_remedy(mlp_path):
    """Without the package the start fails with what to install."""
    code = f"""
import sys
sys.modules["tensorflow"] = None
from broker.models.errors import ModelLoadError
from broker.models.repository import load
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
