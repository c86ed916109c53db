"""One JSON line per event, on standard error, for our own and the libraries' log messages."""

from __future__ import annotations

import logging
import sys

import structlog

_OUR_PACKAGES = frozenset(
    "__main__ app backends config inference models observability protocol session transport".split()  # noqa: SIM905 - short
)
"""Top-level modules of this server: only their lines may be written below INFO."""


def configure(level: str) -> None:
    """Send structlog's and the standard library's records to standard error as JSON. Called once, at start-up.

    `level` is a standard level name. Libraries write INFO and above only, whatever the level: below it they write
    request headers, audio and text. uvicorn's own loggers lose their handlers, so that every line has one shape.
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
        # A line below the level costs only a call of an empty function.
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_is_ours_or_info)
    handler.addFilter(_is_not_about_a_websocket)
    handler.addFilter(_without_query)
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
    root.setLevel(max(logging.INFO, logging.getLevelNamesMapping()[level]))
    for name in _OUR_PACKAGES:
        logging.getLogger(name).setLevel(level)
    _raise_levels_of_libraries()
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        library = logging.getLogger(name)
        # If the access log is switched off, its logger has no handler and stays off.
        library.propagate = name != "uvicorn.access" or bool(library.handlers)
        library.handlers = []


def _without_colour(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Drop uvicorn's copy of its message for terminals."""
    event.pop("color_message", None)
    return event


def _is_not_about_a_websocket(record: logging.LogRecord) -> bool:
    """Leave out uvicorn's lines about WebSockets: they show the query, and ours say the same with ids."""
    text = str(record.msg)
    return record.name != "uvicorn.error" or not ("WebSocket" in text or text.startswith("connection "))


def _raise_levels_of_libraries() -> None:
    """Undo levels below INFO, such as those of `uvicorn --log-level debug`; libraries then format no such lines."""
    for name in list(logging.root.manager.loggerDict):
        library = logging.getLogger(name)
        if 0 < library.level < logging.INFO and not _is_ours(name):
            library.setLevel(logging.INFO)


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] in _OUR_PACKAGES


def _is_ours_or_info(record: logging.LogRecord) -> bool:
    """Leave out lines of libraries below INFO, in case a library sets its own level later."""
    return record.levelno >= logging.INFO or _is_ours(record.name)


def _without_query(record: logging.LogRecord) -> bool:
    """Cut the query off the paths in uvicorn's access log: it may have hotwords."""
    if record.name == "uvicorn.access" and isinstance(record.args, tuple) and len(record.args) > 2:
        address, method, path, *others = record.args
        record.args = (address, method, str(path).partition("?")[0], *others)
    return True
