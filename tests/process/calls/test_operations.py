"""What docs/operations.md promises in figures and settings is so."""

from __future__ import annotations

import configparser
import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import worker_client
from broker.cli.serve import serve
from broker.config.settings import Settings
from tests.brokers import SHM, serving
from tests.process.broker.test_limits import CAN_MOUNT, in_small_shm
from worker_client.wire.layout import size_class
from worker_client.wire.tensors import lay_out

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "operations.md").read_text()
TABLE = {
    what: int(number.replace(",", ""))
    for what, number in re.findall(r"^\| ([^|]+?) \| ([\d,]+) \|$", TEXT, re.MULTILINE)
}
WORKERS, THREADS = 8, 4
FLOAT = np.dtype(np.float32)
IMAGE = (1, 224, 224, 3)


def grown(settings: Settings, nbytes: int) -> int:
    """The region that `nbytes` need beside those there are from the start."""
    return 0 if nbytes <= settings.region_bytes else size_class(nbytes)


def test_the_worked_example_is_computed() -> None:
    """Each figure of the example follows from the layout and the default settings."""
    settings = Settings(models=())
    given = lay_out([(FLOAT, IMAGE)]).nbytes
    answer = lay_out([(FLOAT, (1, 1000))]).nbytes
    one = settings.first_segment_bytes + THREADS * (grown(settings, given) + grown(settings, answer))
    budget = WORKERS * one * 5 // 4
    computed = {
        "first segment": settings.first_segment_bytes,
        "input of a request, with its table": given,
        "grown input region": grown(settings, given),
        "output of a request, with its table": answer,
        "grown output region": grown(settings, answer),
        "one worker": one,
        "all workers": WORKERS * one,
        "max_total_bytes, with a quarter more": budget,
        "/dev/shm": WORKERS * (settings.slots + 2) * 4096,
    }
    assert computed == TABLE
    assert settings.first_segment_bytes == 2240 + settings.slots * (256 + 2 * settings.region_bytes)
    assert TABLE["/dev/shm"] < 64 << 20


def test_a_worker_takes_what_the_example_says() -> None:
    """A broker counts for a worker with four such requests in flight exactly the bytes of the example."""
    nbytes = int(np.prod(IMAGE)) * FLOAT.itemsize
    with serving("consume") as broker, worker_client.connect(broker.address) as client:
        with contextlib.ExitStack() as stack:
            requests = [
                stack.enter_context(client.model("consume").request(rows=nbytes)) for _ in range(THREADS)
            ]
            for request in requests:
                request["x"][...] = 1
                assert request.run()["n"] == nbytes
        (worker,) = broker.status()["workers"]
        assert worker["shared_memory_bytes"] == TABLE["one worker"]


def take_all_of_dev_shm() -> None:
    before = used()
    with serving("consume") as broker, worker_client.connect(broker.address) as client:
        doorbell = used() - before
        client.model("consume").predict(np.ones(100, np.uint8))
        assert used() - before - doorbell == (Settings(models=()).slots + 2) * 4096


def used() -> int:
    found = os.statvfs(SHM)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


@pytest.mark.skipif(not CAN_MOUNT, reason="needs a /dev/shm of its own to count in")
def test_what_is_not_counted_is_one_page_a_semaphore() -> None:
    """A worker that has attached takes its first segment and a page for each semaphore, and no more."""
    in_small_shm("64m", "take_all_of_dev_shm", module=__name__)


def units() -> list[configparser.ConfigParser]:
    found = []
    for text in re.findall(r"```ini\n(.*?)```", TEXT, re.DOTALL):
        unit = configparser.ConfigParser(interpolation=None)
        unit.optionxform = str  # type: ignore[assignment, method-assign]
        unit.read_string(text)
        found.append(unit)
    return found


def test_the_units_fit_together() -> None:
    """Both units name one address, in the broker's runtime directory; the broker's options exist and fit its limits."""
    broker, web = units()
    words = broker["Service"]["ExecStart"].split()
    assert words[1] == "serve"
    options = dict(zip(words[2::2], words[3::2]))
    assert options.keys() <= {name for parameter in serve.params for name in parameter.opts}
    address = options["--name"]
    assert address == f"/run/{broker['Service']['RuntimeDirectory']}/default.sock"
    assert web["Service"]["Environment"] == f"BROKER_ADDRESS={address}"
    assert web["Unit"]["After"] == web["Unit"]["Wants"] == "onesession.service"
    assert float(broker["Service"]["TimeoutStopSec"]) > Settings(models=()).drain_seconds


def sweep_from_another_container() -> None:
    """The broker is here; the doctor, and a worker, see no process of ours."""
    with serving("double") as broker:
        names = broker.names()
        apart = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable]
        done = subprocess.run(
            [*apart, "-m", "broker", "doctor", "--sweep", "--name", broker.address],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "no dead broker has left" in done.stdout, done
        assert "is not visible from here" in " ".join(done.stdout.split()), done
        assert broker.names() == names
        call = (
            "import sys, numpy, worker_client\n"
            "client = worker_client.connect(sys.argv[1])\n"
            "assert client.model('double').predict(numpy.ones((1, 4), 'float32')).sum() == 8\n"
        )
        subprocess.run([*apart, "-c", call, broker.address], timeout=60, check=True)


@pytest.mark.skipif(not CAN_MOUNT, reason="needs the right to make namespaces")
def test_containers_need_not_see_each_others_processes() -> None:
    """From another pid namespace workers are served, and `--sweep` leaves a live broker's names alone."""
    in_small_shm("64m", "sweep_from_another_container", module=__name__)
