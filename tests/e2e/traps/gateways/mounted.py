"""The other gateways below a prefix, by Hypercorn's dispatcher. They are beside this file wherever it runs."""

from __future__ import annotations

from importlib import import_module

from hypercorn.middleware.dispatcher import TrioDispatcherMiddleware

gateway = TrioDispatcherMiddleware({"/llm": import_module("gateway").app})
failing = TrioDispatcherMiddleware({"/llm": import_module("failing").app})
