"""FastAPI on uvicorn, which spawns its workers. `onesession run` is the parent of both:

    onesession run --model mean=example_model:mean -- uvicorn --workers 4 fastapi_app:app

What changes in the app: the lifespan holds a client in place of a model, and the endpoint awaits it. No call blocks
the event loop, none takes a thread, and cancelling the task (a client that goes away) cancels its request.
"""

# ruff: noqa: INP001

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import numpy as np
from fastapi import FastAPI, Query, Request

import worker_client.aio


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with worker_client.aio.connect() as client:
        app.state.mean = client.model("mean")
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/mean")
async def get_mean(request: Request, x: Annotated[list[float], Query()]) -> dict[str, float]:
    answer = await request.app.state.mean.predict(np.array([x], dtype="float32"))
    return {"mean": float(answer[0, 0]), "pid": os.getpid()}
