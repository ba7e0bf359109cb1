"""Gateways that load and then do not start."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI


@asynccontextmanager
async def _raise(app: FastAPI) -> AsyncIterator[None]:
    raise RuntimeError("no database")
    yield


@asynccontextmanager
async def _leave(app: FastAPI) -> AsyncIterator[None]:
    sys.exit("no licence")
    yield


@asynccontextmanager
async def _wait(app: FastAPI) -> AsyncIterator[None]:
    await asyncio.Event().wait()
    yield


@asynccontextmanager
async def _block(app: FastAPI) -> AsyncIterator[None]:
    while True:
        time.sleep(3600)  # noqa: ASYNC251
    yield


@asynccontextmanager
async def _wait_for_thread(app: FastAPI) -> AsyncIterator[None]:
    await asyncio.to_thread(threading.Event().wait)
    yield


raising = FastAPI(lifespan=_raise)
leaving = FastAPI(lifespan=_leave)
waiting = FastAPI(lifespan=_wait)
blocking = FastAPI(lifespan=_block)
waiting_for_thread = FastAPI(lifespan=_wait_for_thread)
