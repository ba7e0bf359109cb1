"""A gateway that sets up logging for itself as it is imported, as `SETUP` says, to where nobody may read."""

from __future__ import annotations

import logging.config
import os
from typing import Any

import structlog

from tests.e2e.observe.gateway import app

__all__ = ["app"]

FORMATTERS = {"mine": {"format": "mine: %(levelname)s %(message)s"}}
HANDLERS = {"mine": {"class": "logging.StreamHandler", "formatter": "mine"}}
ROOT = {"handlers": ["mine"], "level": "INFO"}


def configure_structlog() -> None:
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(),
    )


def configure_logging(**options: Any) -> None:
    logging.config.dictConfig({"version": 1, "formatters": FORMATTERS, "handlers": HANDLERS, **options})


SETUPS = {
    "structlog": configure_structlog,
    "root": lambda: configure_logging(root=ROOT, disable_existing_loggers=False),
    "root, all else disabled": lambda: configure_logging(root=ROOT),
    # As uvicorn's own configuration does.
    "loggers of its own": lambda: configure_logging(
        loggers={"mine": {"handlers": ["mine"], "propagate": False}}, disable_existing_loggers=False
    ),
    "all is off": lambda: logging.disable(logging.CRITICAL),
}
SETUPS[os.environ["SETUP"]]()
