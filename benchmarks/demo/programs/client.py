"""One client: posts test images over HTTP, one at a time, and keeps what was answered and how long it took.

A connection for each request, since gunicorn's sync workers keep none open. Says `ready` on stdout, waits for a line on
stdin, so that all clients start together, and reports its progress; the answers go to the file --answers.
"""

import argparse
import http.client
import json
import sys
from time import monotonic_ns

import numpy as np

REPORT_EVERY_NS = 100_000_000
TIMEOUT_S = 10.0


class Answers:
    """What came back, by request."""

    def __init__(self) -> None:
        self.images: list[int] = []
        self.digits: list[int] = []
        self.probabilities: list[list[float]] = []
        self.latencies_ns: list[int] = []
        self.errors: list[str] = []

    def keep(self, image: int, status: int, body: bytes, latency_ns: int) -> None:
        if status != 200:
            self.errors.append(f"status {status}: {body[:200].decode('utf-8', 'replace')}")
            return
        answer = json.loads(body)
        self.images.append(image)
        self.digits.append(answer["digit"])
        self.probabilities.append(answer["probabilities"])
        self.latencies_ns.append(latency_ns)

    def save(self, path: str, start_ns: int, end_ns: int) -> None:
        np.savez(
            path,
            images=np.array(self.images, np.int64),
            digits=np.array(self.digits, np.int64),
            probabilities=np.array(self.probabilities, np.float64).reshape(-1, 10),
            latencies_ns=np.array(self.latencies_ns, np.int64),
            errors=np.array(self.errors, str),
            span_ns=np.array([start_ns, end_ns], np.int64),
        )


def main() -> None:
    options = _options()
    images = np.load(options.images)["images"]
    bodies = [json.dumps({"pixels": image.astype(int).tolist()}).encode() for image in images]
    _tell(ready=True)
    if not sys.stdin.readline():
        return  # the demo is gone
    answers = Answers()
    start_ns = monotonic_ns()
    _send(options, bodies, answers, start_ns + int(options.seconds * 1e9))
    answers.save(options.answers, start_ns, monotonic_ns())


def _send(options: argparse.Namespace, bodies: list[bytes], answers: Answers, end_ns: int) -> None:
    report_ns = 0
    for number, request in enumerate(range(options.first, options.requests, options.step)):
        now_ns = monotonic_ns()
        if now_ns >= end_ns:
            break
        if now_ns >= report_ns:
            _tell(sent=number)
            report_ns = now_ns + REPORT_EVERY_NS
        image = request % len(bodies)
        try:
            status, body = _post(options, bodies[image])
            answers.keep(image, status, body, monotonic_ns() - now_ns)
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            answers.errors.append(f"{type(error).__name__}: {error}")


def _post(options: argparse.Namespace, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(options.host, options.port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", "/digit", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _tell(**message) -> None:
    print(json.dumps(message), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--images", required=True, help="path of the trainer's test.npz")
    parser.add_argument("--answers", required=True, help="path of the .npz to write")
    parser.add_argument(
        "--requests", type=int, required=True, help="number of requests of all clients together"
    )
    parser.add_argument("--first", type=int, required=True, help="number of this client's first request")
    parser.add_argument("--step", type=int, required=True, help="number of clients")
    parser.add_argument("--seconds", type=float, required=True, help="time after which the client stops")
    return parser.parse_args()


if __name__ == "__main__":
    main()
