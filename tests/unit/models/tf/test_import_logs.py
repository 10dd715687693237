"""Start-up chatter on descriptor 2."""

from __future__ import annotations

import os
import threading

import pytest

from broker.models.tf.import_logs import import_chatter_dropped

CHATTER = [
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795237429.151130    6135 port.cc:153] oneDNN custom operations are on.",
    "2024-08-10 09:16:11.569780: I tensorflow/core/util/port.cc:153] oneDNN custom operations are on.",
    "E0000 00:00:1758131045.203198 3722035 cuda_dnn.cc:8579] Unable to register cuDNN factory: Attempting",
    "To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow with the flags.",
]
NEWS = [
    "E0000 00:00:1758131045.203198 3722035 cuda.cc:1] no memory left on the device",
    "2024-08-10 09:16:11.569780: W tensorflow/core/x.cc:1] something to know",
    "I am a line of the application",
]


def say(*lines: str) -> None:
    os.write(2, "".join(f"{line}\n" for line in lines).encode())


@pytest.mark.parametrize("line", CHATTER)
def test_chatter_is_dropped(capfd, line):
    """Each known form of it, of every TensorFlow we support."""
    with import_chatter_dropped(wanted=True):
        say(line)
    assert capfd.readouterr().err == ""


def test_everything_else_is_passed_on_in_order(capfd):
    """Also when the import raises."""

    def fail() -> None:
        with import_chatter_dropped(wanted=True):
            say(NEWS[0], CHATTER[0], *NEWS[1:])
            raise ImportError

    with pytest.raises(ImportError):
        fail()
    assert capfd.readouterr().err.splitlines() == NEWS
    say("later")
    assert capfd.readouterr().err == "later\n"


def test_nothing_is_held_back_unless_wanted(capfd):
    """Who asked for TensorFlow's log sees it as it comes."""
    with import_chatter_dropped(wanted=False):
        say(CHATTER[0])
        assert capfd.readouterr().err.splitlines() == CHATTER[:1]


def test_nothing_is_held_back_beside_other_threads(capfd):
    """Another thread could fork, and its child would write into a buffer that nobody reads."""
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    try:
        with import_chatter_dropped(wanted=True):
            say(CHATTER[0])
            assert capfd.readouterr().err.splitlines() == CHATTER[:1]
    finally:
        done.set()
        other.join()
