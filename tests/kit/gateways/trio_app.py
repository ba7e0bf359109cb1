"""A QuartTrio application to mount: `quart_app` on trio, for `--gateway-loop trio`."""

from __future__ import annotations

from quart_trio import QuartTrio

from tests.kit.gateways.quart_app import build

app = build(QuartTrio)
