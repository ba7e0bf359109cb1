"""Puts the demo together: SAGE's gateway, its control plane, and the model's engines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from sage_edge.demo.embeddings import EmbeddingEngine
from sage_edge.demo.engine import Engine, in_thread
from sage_edge.demo.model import EMBEDDING_MODEL_ID, MODEL_ID, find_model


def create() -> Any:
    """The gateway, a FastAPI application. Its lifespan loads the model and frees it.

    Once in a process: the gateway's application is a module's, and this changes it. Beside the gateway's
    own routes it has `GET /demo/engine`: what the engine has generated so far.

    Raises:
        ModuleNotFoundError: a package of the demo's is not installed.
    """
    find_model()
    from sagellm_control import ControlPlaneManager
    from sagellm_gateway import server

    engine, embedding = Engine(), EmbeddingEngine()
    manager = ControlPlaneManager()
    manager.register_engine(engine.engine_id, MODEL_ID, llm_engine=engine)
    manager.register_engine("smollm2-embedding", EMBEDDING_MODEL_ID, engine_kind="embedding", engine=embedding)
    app = server.create_app(control_plane=manager)
    gateway_lifespan = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(application: Any) -> AsyncIterator[Any]:
        await in_thread(engine.load)
        try:
            async with gateway_lifespan(application) as state:
                yield state
        finally:
            await in_thread(engine.close)
            await in_thread(embedding.close)

    app.router.lifespan_context = lifespan

    async def statistics() -> dict[str, Any]:
        return asdict(engine.statistics)

    app.add_api_route("/demo/engine", statistics, tags=["demo"])
    return app
