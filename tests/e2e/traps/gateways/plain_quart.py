"""A gateway written with Quart, which is asyncio's."""

from __future__ import annotations

from quart import Quart

app = Quart(__name__)


@app.get("/ok")
async def answer() -> str:
    """200."""
    return "ok"
