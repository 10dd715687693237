"""PySpark: `predict_batch_udf` and `mapInPandas` in many Python workers, one broker a node.

    pip install pyspark pandas pyarrow      # and a Java runtime: apt install default-jre-headless
    python spark_app.py

On a cluster the model's files come by `spark.sparkContext.addFile(..., recursive=True)` and `SparkFiles.get(...)`, by
`--archives`, or from a shared disk.
"""

# ruff: noqa: INP001, T201

import os
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import SparkSession
from pyspark.sql.types import FloatType

MODELS = {"mean": os.environ.get("MODEL", "example_model:mean")}
IDLE_SECONDS = float(os.environ.get("IDLE_SECONDS", "120"))
ROWS = np.arange(4000, dtype="float32").reshape(1000, 4)


def make_predict() -> Callable[[np.ndarray], np.ndarray]:
    """Called once in each of Spark's Python workers."""
    from worker_client import node

    mean = node.shared(MODELS, idle_seconds=IDLE_SECONDS).model("mean")
    return lambda x: mean.predict(x.astype(np.float32))[:, 0]


def add_means(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    from worker_client import node

    client = node.shared(MODELS, idle_seconds=IDLE_SECONDS)
    arrays, kept = [], []
    for frame in frames:
        kept.append(frame)
        arrays.append(np.stack(frame["x"].to_numpy()).astype(np.float32))
    for frame, y in zip(kept, client.model("mean").map(arrays, max_in_flight=4), strict=True):
        yield pd.DataFrame(
            {"mean": frame["mean"], "y": y[:, 0], "pid": os.getpid(), "broker": client.address}
        )


def main() -> None:
    spark = (
        SparkSession.builder.master("local[3]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "100")
        .getOrCreate()
    )
    try:
        rows = [(row.tolist(), float(row.mean())) for row in ROWS]
        data = spark.createDataFrame(rows, "x array<float>, mean float").repartition(6)
        mean_of = predict_batch_udf(
            make_predict, return_type=FloatType(), batch_size=100, input_tensor_shapes=[[4]]
        )
        found = data.select("mean", mean_of("x").alias("y")).collect()
        assert all(np.isclose(row.y, row.mean) for row in found)
        print(f"predict_batch_udf: {len(found)} right answers")
        found = data.mapInPandas(add_means, "mean float, y float, pid long, broker string").collect()
        assert all(np.isclose(row.y, row.mean) for row in found)
        processes, brokers = {row.pid for row in found}, {row.broker for row in found}
        print(f"mapInPandas: {len(found)} right answers, {len(processes)} processes, {len(brokers)} broker")
    finally:
        spark.stop()


if __name__ == "__main__":
    main()
