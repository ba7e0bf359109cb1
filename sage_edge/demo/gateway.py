"""Puts the demo together: SAGE's gateway, its control plane, and the model's engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from sagellm_control import ControlPlaneManager
from sagellm_gateway import server
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from sage_edge.demo.embeddings import EmbeddingEngine
from sage_edge.demo.engine import Engine
from sage_edge.demo.model import EMBEDDING_MODEL_ID, MODEL_ID, find_model


class DemoGateway(Starlette):
    """SAGE's gateway, unchanged, below an application that owns the engines.

    SAGE's application is one object for the whole process, so nothing is added to it. The
    attributes say where its pages are, as FastAPI's do.

    Args:
        gateway: SAGE's application, set up with the engines.
        engine: loaded and closed with the application; shown at `GET /demo/engine`.
        embeddings: closed with the application.
    """

    def __init__(self, gateway: Any, engine: Engine, embeddings: EmbeddingEngine) -> None:
        self.docs_url: str | None = gateway.docs_url
        self.redoc_url: str | None = gateway.redoc_url
        self.openapi_url: str | None = gateway.openapi_url
        self._gateway = gateway
        self._engine = engine
        self._embeddings = embeddings
        routes = [Route("/demo/engine", self._show_engine), Mount("/", gateway)]
        super().__init__(routes=routes, lifespan=DemoGateway._live)

    @asynccontextmanager
    async def _live(self) -> AsyncIterator[Any]:
        # The engines stop first, so that what is still running ends with an error and not never.
        async with self._gateway.router.lifespan_context(self._gateway) as state:
            try:
                await asyncio.to_thread(self._engine.load)
                yield state
            finally:
                await asyncio.to_thread(self._engine.close)
                await asyncio.to_thread(self._embeddings.close)

    async def _show_engine(self, request: Request) -> JSONResponse:
        return JSONResponse(asdict(self._engine.statistics))


def create() -> DemoGateway:
    """Make the gateway. The model is loaded when the application starts, not here.

    Raises:
        ModuleNotFoundError: a package of the demo's is not installed.
    """
    find_model()
    engine, embeddings = Engine(), EmbeddingEngine()
    manager = ControlPlaneManager()
    manager.register_engine(engine.engine_id, MODEL_ID, llm_engine=engine)
    manager.register_engine("smollm2-embedding", EMBEDDING_MODEL_ID, engine_kind="embedding", engine=embeddings)
    server.configure_control_plane(manager)
    return DemoGateway(server.app, engine, embeddings)
