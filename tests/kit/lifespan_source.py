"""The beginning of a gateway's source, for gateways that are written where an edge imports them from."""

WAITING_LIFESPAN = r"""
import asyncio, pathlib

async def serve_lifespan(receive, send):
    # Start-up takes for as long as there is a file called wait.
    await receive()
    while pathlib.Path("wait").exists():
        await asyncio.sleep(0.01)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
"""
