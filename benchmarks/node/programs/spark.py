"""Two queries with `predict_batch_udf` in so many Python workers of Spark."""

from __future__ import annotations

import functools
import json
import sys
import time

import numpy as np
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f
from pyspark.sql.types import FloatType

from benchmarks.node.programs import wide
from benchmarks.node.programs.predictors import Predict, predictor


def make_predict(arm: str, model: str, idle_seconds: float) -> Predict:
    predict = predictor(arm, model, idle_seconds)
    return lambda x: predict(np.asarray(x, np.float32))[:, 0]


def session(workers: int) -> SparkSession:
    return (
        SparkSession.builder.master(f"local[{workers}]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .getOrCreate()
    )


def data(spark: SparkSession, rows: int, workers: int) -> DataFrame:
    x = f.transform(
        f.sequence(f.lit(0), f.lit(wide.WIDTH - 1)), lambda i: ((f.col("id") + i) % 97 / 97).cast("float")
    )
    return spark.range(0, rows, numPartitions=workers).withColumn("x", x)


def main(arm: str, model: str, rows: int, workers: int, batch: int, idle_seconds: float) -> None:
    spark = session(workers)
    try:
        frame = data(spark, rows, workers)
        frame.agg(f.sum(f.col("x")[0])).collect()  # Spark's own start is not part of a query
        make = functools.partial(make_predict, arm, model, idle_seconds)
        udf = predict_batch_udf(
            make, return_type=FloatType(), batch_size=batch, input_tensor_shapes=[[wide.WIDTH]]
        )
        seconds = []
        for _ in range(2):
            begun = time.perf_counter()
            found = frame.select("id", udf("x").alias("y")).collect()
            seconds.append(time.perf_counter() - begun)
            y = np.array([row.y for row in sorted(found, key=lambda row: row.id)], np.float32)
            right = len(y) == rows and bool(np.allclose(y, wide.answers(np.arange(rows)), atol=1e-3))
            assert right, "a wrong answer"
    finally:
        spark.stop()
    print(json.dumps({"first": seconds[0], "second": seconds[1]}))


if __name__ == "__main__":
    arm, model, *numbers = sys.argv[1:]
    main(arm, model, *map(int, numbers))
