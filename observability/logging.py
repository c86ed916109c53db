"""One JSON line per event, on standard error, for our own and the libraries' log messages."""

from __future__ import annotations

import logging
import sys

import structlog


def configure(level: str) -> None:
    """Send structlog's and the standard library's records to standard error as JSON. Called once, at start-up.

    `level` is a standard level name. uvicorn's own loggers lose their handlers, so that every line has one shape.
    """
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        # What is below the level costs a call of an empty function.
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_tells_no_connection)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _without_colour,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        library = logging.getLogger(name)
        # An access log that was switched off has no handler, and stays off.
        library.propagate = name != "uvicorn.access" or bool(library.handlers)
        library.handlers = []


def _without_colour(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Drop uvicorn's copy of its message for terminals."""
    event.pop("color_message", None)
    return event


def _tells_no_connection(record: logging.LogRecord) -> bool:
    """Leave out uvicorn's lines on each WebSocket: they have no ids, show the query, and ours say the same."""
    text = str(record.msg)
    return record.name != "uvicorn.error" or not ("WebSocket" in text or text.startswith("connection "))
