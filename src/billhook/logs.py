"""Log lines without secrets: JSON, or text in a terminal."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor

from billhook.redact import Redactor, shorten
from billhook.settings import Settings

_LONGEST_VALUE = 2_000
_LONGEST_TRACEBACK = 20_000


class _Redacting(logging.Formatter):
    """Removes secrets from the finished line, whatever their source: messages, values,
    tracebacks, other libraries' records."""

    def __init__(self, inner: logging.Formatter, redactor: Redactor) -> None:
        super().__init__()
        self._inner = inner
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        return self._redactor(self._inner.format(record))


def _shorten(_logger: object, _name: str, event: EventDict) -> EventDict:
    """Much of what is logged is untrusted input: paths, headers, ids."""
    for name, value in event.items():
        if isinstance(value, str):
            longest = _LONGEST_TRACEBACK if name == "exception" else _LONGEST_VALUE
            event[name] = shorten(value, longest)
    return event


def show_no_variables() -> None:
    """If structlog is not configured, keep the values of variables out of its tracebacks: they
    contain keys and personal data."""
    if not structlog.is_configured():
        *before, _ = structlog.get_config()["processors"]
        plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        structlog.configure(processors=[*before, plain])


def _for_people() -> Processor:
    """Values are quoted, because strangers may have sent them to control the terminal. Colors would
    separate names from values and hide secrets from the redactor."""
    return structlog.dev.ConsoleRenderer(
        colors=False,
        repr_native_str=True,
        exception_formatter=structlog.dev.plain_traceback,
    )


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Send Billhook's log lines, and those of libraries, to `stream` (standard error): as text
    if it is a terminal, else as JSON.

    Replaces the handlers of the root logger and of uvicorn.
    """
    stream = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _shorten,
            _for_people() if stream.isatty() else structlog.processors.JSONRenderer(),
        ],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Redacting(formatter, Redactor(settings.secret_values())))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    # uvicorn has its own handlers; with ours, its tracebacks are redacted as well.
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
    # No access log: its lines contain query strings, and the reverse proxy has one. uvicorn writes
    # none if there is no handler.
    logging.getLogger("uvicorn.access").handlers = []
    logging.getLogger("uvicorn.access").propagate = False
    # These log every request that we make; our own lines contain what matters.
    for chatty in ("httpx", "httpcore", "stripe"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
