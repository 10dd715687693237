"""Apache Beam: a DoFn in many SDK worker processes, one broker a node.

    pip install apache-beam
    python beam_app.py

In place of `MultiProcessShared`, which pickles over TCP, has no batching and never ends. On a cluster the model's files
are in the workers' container or on a shared disk.
"""

# ruff: noqa: INP001, T201

import os
from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions

from worker_client import node

MODELS = {"mean": os.environ.get("MODEL", "example_model:mean")}
IDLE_SECONDS = float(os.environ.get("IDLE_SECONDS", "120"))
OPTIONS = ["--runner=DirectRunner", "--direct_running_mode=multi_processing", "--direct_num_workers=2"]
ROWS = np.arange(4000, dtype="float32").reshape(1000, 4)


class Means(beam.DoFn):
    def setup(self) -> None:
        """Once for each instance: in each process they all have one connection."""
        self.client = node.shared(MODELS, idle_seconds=IDLE_SECONDS)
        self.mean = self.client.model("mean")

    def process(self, rows: list[list[float]]) -> Iterator[tuple[bool, int, int, str]]:
        x = np.array(rows, np.float32)
        right = np.allclose(self.mean.predict(x)[:, 0], x.mean(axis=1))
        yield right, len(x), os.getpid(), self.client.address


def merge(found: Iterable[tuple[bool, int, set[int], set[str]]]) -> tuple[bool, int, set[int], set[str]]:
    each = list(found)
    pids: set[int] = set().union(*(one[2] for one in each))
    brokers: set[str] = set().union(*(one[3] for one in each))
    return all(one[0] for one in each), sum(one[1] for one in each), pids, brokers


def tell(found: tuple[bool, int, set[int], set[str]]) -> None:
    right, rows, processes, brokers = found
    assert right
    print(f"DoFn: {rows} right answers, {len(processes)} processes, {len(brokers)} broker", flush=True)


def main() -> None:
    with beam.Pipeline(options=PipelineOptions(OPTIONS)) as pipeline:
        (
            pipeline
            | beam.Create(ROWS.tolist(), reshuffle=True)
            | beam.BatchElements(min_batch_size=10, max_batch_size=50)
            | beam.ParDo(Means())
            | beam.Map(lambda one: (one[0], one[1], {one[2]}, {one[3]}))
            | beam.CombineGlobally(merge)
            | beam.Map(tell)
        )


if __name__ == "__main__":
    main()
