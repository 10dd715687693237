"""Metrics and health of a real broker, scraped over HTTP: what was sent is what is counted."""

from __future__ import annotations

import http.client
import socket
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

import worker_client
from broker.observe.prometheus import METRICS
from tests.brokers import TestBroker, folder, serving, wait_until
from worker_client import BrokerError, BrokerUnavailable, Client, DeadlineExceeded, ModelFailed

MODELS = ("double", "picky", "gated", "gated_inline")
OPTIONS = {"metrics_port": 0}
PLAIN = "text/plain"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def get(broker: TestBroker, path: str, accept: str = PLAIN) -> tuple[int, str]:
    (address,) = broker.status()["metrics"]
    return get_at(address, path, accept)


def get_at(address: str, path: str, accept: str = PLAIN) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    try:
        connection.request("GET", path, headers={"Accept": accept})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def scrape(broker: TestBroker) -> dict[str, Metric]:
    status, text = get(broker, "/metrics")
    assert status == 200
    return {family.name: family for family in parse(text)}


def value(families: dict[str, Metric], sample: str, **labels: str) -> float:
    """The sum of all samples of this name that have these labels."""
    found = [
        each.value
        for family in families.values()
        for each in family.samples
        if each.name == sample and labels.items() <= each.labels.items()
    ]
    return sum(found)


def rows(count: int) -> np.ndarray:
    return np.ones((count, 4), np.float32)


def test_what_is_sent_is_counted(broker: TestBroker, client: Client):
    """Requests, rows, runs, sizes and bytes of one model, each stage of each request."""
    before = scrape(broker)
    model = client.model("double")
    for _ in range(20):
        model.predict(rows(3))
    after = scrape(broker)

    def more(sample: str, **labels: str) -> float:
        return value(after, sample, model="double", **labels) - value(
            before, sample, model="double", **labels
        )

    assert more("onesession_requests_total", version="1", signature="serving_default") == 20
    assert more("onesession_rows_total") == 60
    assert more("onesession_run_seconds_count") == 20
    assert more("onesession_batch_rows_count") == 20
    assert more("onesession_batch_rows_sum") == 60
    assert more("onesession_batch_rows_bucket", le="2.0") == 0
    assert more("onesession_batch_rows_bucket", le="4.0") == 20
    assert more("onesession_batch_padding_rows_count") == 20
    assert more("onesession_batch_padding_rows_sum") == 0
    assert more("onesession_input_bytes_total") == more("onesession_output_bytes_total") == 20 * 48
    assert more("onesession_joined_bytes_total") == 0
    for stage in ("queue", "batch_wait", "copy", "request"):
        assert more(f"onesession_{stage}_seconds_count") == 20
        assert more(f"onesession_{stage}_seconds_bucket", le="+Inf") == 20
    parts = sum(more(f"onesession_{stage}_seconds_sum") for stage in ("queue", "batch_wait", "run", "copy"))
    assert parts == pytest.approx(more("onesession_request_seconds_sum"))
    assert more("onesession_request_errors_total") == 0


def test_requests_that_run_together(broker: TestBroker, client: Client):
    """One run for several requests counts each of them, and the bytes that joining them took."""
    before = scrape(broker)
    model = client.model("gated")
    first = model.submit({"number": np.array([1]), "x": np.zeros(1, np.float32)}, timeout=60)
    broker.gate.wait_for(1)
    rest = [
        model.submit({"number": np.zeros(2, np.int64), "x": np.ones(2, np.float32)}, timeout=60)
        for _ in range(3)
    ]
    broker.wait_for_in_flight(4)
    assert value(scrape(broker), "onesession_queue_rows", model="gated") == 6
    assert value(scrape(broker), "onesession_slots", state="taken") == 3
    broker.gate.open(1)
    for future in (first, *rest):
        future.result(60)

    def more(sample: str) -> float:
        return value(scrape(broker), sample, model="gated") - value(before, sample, model="gated")

    wait_until(lambda: more("onesession_requests_total") == 4, "all to be counted")
    assert more("onesession_run_seconds_count") == 2
    assert more("onesession_rows_total") == 7
    assert more("onesession_request_seconds_count") == 4
    assert more("onesession_joined_bytes_total") == 3 * 2 * (8 + 4)
    assert more("onesession_input_bytes_total") == 7 * (8 + 4)
    assert more("onesession_output_bytes_total") == 7 * (4 + 8 + 8)


def test_errors_are_counted_by_class(broker: TestBroker, client: Client):
    """What the model failed on, what was refused, what nobody waited for."""
    before = scrape(broker)
    with pytest.raises(ModelFailed):
        client.model("picky").predict(np.full((1, 4), 13, np.float32))
    client.model("picky").predict(rows(1))
    gated = client.model("gated")
    blocker = gated.submit({"number": np.array([2]), "x": np.zeros(1, np.float32)}, timeout=60)
    broker.gate.wait_for(2)
    with pytest.raises(DeadlineExceeded):
        gated.predict({"number": np.array([0]), "x": np.zeros(1, np.float32)}, timeout=0.05)
    broker.gate.open(2)
    blocker.result(60)

    def more(sample: str, **labels: str) -> float:
        return value(scrape(broker), sample, **labels) - value(before, sample, **labels)

    assert more("onesession_request_errors_total", model="picky", error="ModelFailed") == 1
    assert more("onesession_requests_total", model="picky") == 2
    wait_until(
        lambda: more("onesession_request_errors_total", model="gated", error="DeadlineExceeded") == 1,
        "the dropped request",
    )
    assert more("onesession_requests_total", model="gated") == 2


def test_workers_slots_and_memory(broker: TestBroker):
    """Gauges of what there is now; counters of who came and went."""
    broker.wait_for_workers()
    before = scrape(broker)
    with worker_client.connect(broker.address) as client:
        model = client.model("gated")
        future = model.submit({"number": np.array([3]), "x": np.zeros(1, np.float32)}, timeout=60)
        broker.gate.wait_for(3)
        families = scrape(broker)
        assert value(families, "onesession_workers") == 1
        assert value(families, "onesession_slots", state="running") == 1
        assert value(families, "onesession_slots") == 8
        assert value(families, "onesession_ring_requests") == 0
        used = value(families, "onesession_shared_memory_bytes")
        assert 0 < used == broker.shared_memory_bytes()
        assert value(families, "onesession_shared_memory_limit_bytes") == 1 << 30
        broker.gate.open(3)
        future.result(60)
    wait_until(lambda: value(scrape(broker), "onesession_workers") == 0, "its end")
    after = scrape(broker)
    for what in ("attaches", "detaches"):
        sample = f"onesession_worker_{what}_total"
        assert value(after, sample) - value(before, sample) == 1
    assert value(after, "onesession_restarts_total") == 0


def test_models_and_process(broker: TestBroker):
    """Each version's state, and what the process takes."""
    families = scrape(broker)
    for model in MODELS:
        assert value(families, "onesession_model_state", model=model, version="1", state="AVAILABLE") == 1
        assert value(families, "onesession_model_state", model=model, version="1") == 1
    assert value(families, "onesession_info") == 1
    assert value(families, "process_cpu_seconds_total") > 0
    assert value(families, "process_resident_memory_bytes") > 1 << 20


def test_the_start_is_one_moment(broker: TestBroker):
    """The same at each scrape, to the last digit: alerts count its changes."""
    first, second = [value(scrape(broker), "onesession_start_time_seconds") for _ in range(2)]
    assert first == second > 1.6e9


def test_both_formats_are_valid(broker: TestBroker, client: Client):
    """The strict parsers take both formats; every metric has its type, its help and no other name."""
    client.model("double").predict(rows(1))
    status, text = get(broker, "/metrics", OPENMETRICS)
    assert status == 200
    strict = {family.name: family for family in parse_openmetrics(text)}
    for families in (scrape(broker), strict):
        ours = {name for name in families if name.startswith("onesession_")} - {
            "onesession_info",
            "onesession",
        }
        assert ours == set(METRICS)
        for name in ours:
            kind, text, labels = METRICS[name]
            family = families[name]
            assert (family.documentation, family.type) == (text, kind("x", "x").type)
            for sample in family.samples:
                assert set(sample.labels) - {"le"} == set(labels)


def test_names_follow_the_conventions():
    """Base units, no `total` but at the end of counters, and a unit where there is one."""
    for name, (kind, text, _) in METRICS.items():
        made = kind(name, text)
        assert name.startswith("onesession_")
        assert not name.endswith("_total")
        assert not any(word in name for word in ("_ms", "_us", "_ns", "milli", "micro", "kilo", "percent"))
        if made.type == "histogram":
            assert name.endswith(("_seconds", "_rows", "_bytes"))


def test_alive_and_ready(broker: TestBroker):
    """Health, and a word on what else there is."""
    for path in ("/livez", "/readyz", "/healthz"):
        assert get(broker, path) == (200, "ok\n")
    assert get(broker, "/")[0] == 200
    status, text = get(broker, "/metric")
    assert status == 404
    assert "/metrics" in text


def test_a_stuck_thread_is_told(broker: TestBroker, client: Client):
    """A broker whose intake does not go round is not alive, nor ready; when it does again, it is."""
    blocked = client.model("gated_inline").submit({"number": np.array(4), "x": np.float32(0)}, timeout=60)
    broker.gate.wait_for(4)
    status, text = get(broker, "/readyz")
    assert status == 503
    assert "no progress of intake" in text
    broker.gate.open(4)
    blocked.result(60)
    assert get(broker, "/livez") == (200, "ok\n")


def test_a_client_that_says_nothing_blocks_nobody(broker: TestBroker):
    """Others are answered meanwhile."""
    (address,) = broker.status()["metrics"]
    host, _, port = address.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port))):
        assert get(broker, "/livez")[0] == 200


# -- brokers of their own ------------------------------------------------------------------------------------------


def is_there(broker: TestBroker) -> bool:
    try:
        return bool(broker.status())
    except BrokerUnavailable:
        return False


def test_a_unix_socket():
    """For the broker's own user only, in place of what a killed broker left there, and gone when the broker is."""
    with folder() as place:
        path = place / "metrics"
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
        with serving("double", metrics_socket=str(path)) as broker:
            assert broker.status()["metrics"] == [f"unix:{path}"]
            assert path.stat().st_mode & 0o777 == 0o600
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(path))
                sock.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
                answer = b"".join(iter(lambda: sock.recv(4096), b""))
            assert answer.startswith(b"HTTP/1.0 200 ")
            assert answer.endswith(b"\r\n\r\nok\n")
        assert not path.exists()


def test_an_address_in_use_is_said():
    """At once, with what to change; a broker that has the address goes on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(BrokerError, match=f"127.0.0.1:{port}: .*in use.*metrics_port"),
            serving("double", metrics_port=port),
        ):
            pass


def test_a_broker_that_stops_is_not_ready():
    """From the moment it is told to stop, while it still finishes what it has."""
    with serving("gated", metrics_port=0) as broker, worker_client.connect(broker.address) as client:
        (address,) = broker.status()["metrics"]
        future = client.model("gated").submit({"number": np.array([1]), "x": np.zeros(1, np.float32)})
        broker.gate.wait_for(1)
        with ThreadPoolExecutor(1) as threads:
            stopped = threads.submit(broker.stop)
            wait_until(lambda: get_at(address, "/readyz") == (503, "it is being stopped\n"), "not ready")
            broker.gate.open(1)
            stopped.result(60)
        assert future.result(60)


def test_restarts_and_reconnects_are_counted():
    """A supervised broker that died tells so; its worker came back."""
    with (
        serving("double", supervise=True, metrics_port=0) as broker,
        worker_client.connect(broker.address) as client,
    ):
        client.model("double").predict(rows(1))
        pid = broker.kill_engine()
        client.model("double").predict(rows(1), timeout=60)
        broker.next_pid(pid)
        wait_until(lambda: is_there(broker), "the next broker to say that it is there")
        families = scrape(broker)
        assert value(families, "onesession_restarts_total") == 1
        assert value(families, "onesession_worker_reconnects_total") == 1
        assert value(families, "onesession_worker_attaches_total") == 1
