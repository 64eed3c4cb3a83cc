"""Logging: one JSON object per line (plain lines on a terminal), made of allowed fields only, secrets masked."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any, Final

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from audit.correlation import correlation_id
from audit.masking import masked

# A field that is not here does not reach the log, whoever adds it.
ALLOWED_FIELDS: Final = frozenset(
    {
        "action", "attempt", "code", "connection", "correlation_id", "count", "duration_ms", "event", "exception",
        "exit_code", "host", "issuer", "level", "logger", "method", "name", "outcome", "pid", "port", "process",
        "registration_method", "retryable", "route", "seconds", "server", "status", "step", "task", "timestamp", "url",
        "user", "verdict",
    }
)  # fmt: skip
# At DEBUG these write codes, secrets and tokens.
_NOISY: Final = {
    "requests_oauthlib": "INFO", "oauthlib": "INFO", "urllib3": "INFO", "httpx2": "WARNING", "httpcore2": "WARNING",
    "mcp": "WARNING", "aiohttp": "INFO", "asyncio": "INFO", "kombu": "INFO", "amqp": "INFO", "celery": "INFO",
    "django.db.backends": "INFO", "django.template": "INFO", "authlib": "INFO",
}  # fmt: skip


class QuietLibraries(logging.Filter):
    """Keeps libraries from telling requests and answers in full, whatever level somebody gives their loggers."""

    def filter(self, record: logging.LogRecord) -> bool:
        names = tuple(f"{name}." for name in _NOISY)
        return record.levelno >= logging.INFO or not f"{record.name}.".startswith(names)


def keep_allowed_fields(logger: WrappedLogger, method_name: str, event_dict: EventDict) -> EventDict:
    """Drop fields outside `ALLOWED_FIELDS`; mask the text of the others."""
    return {name: _plain(value) for name, value in event_dict.items() if name in ALLOWED_FIELDS or name.startswith("_")}


def add_correlation(logger: WrappedLogger, method_name: str, event_dict: EventDict) -> EventDict:
    """Name the request, task or command that the line belongs to."""
    event_dict.setdefault("correlation_id", correlation_id())
    return event_dict


def describe_exception(logger: WrappedLogger, method_name: str, event_dict: EventDict) -> EventDict:
    """Replace exception information by its types, masked messages and places; source lines and locals stay out."""
    raised = event_dict.pop("exc_info", None)
    event_dict.pop("stack_info", None)
    error = sys.exc_info()[1] if raised is True else raised[1] if isinstance(raised, tuple) else raised
    if isinstance(error, BaseException):
        event_dict["exception"] = " <- ".join(_description(cause) for cause in _chain(error))
    return event_dict


def logging_config() -> dict[str, Any]:
    """Return the configuration for `logging.config.dictConfig`, for our loggers and everybody else's."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_correlation,
        describe_exception,
        keep_allowed_fields,
    ]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "lines": {
                "()": "structlog.stdlib.ProcessorFormatter",
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer()],
                "foreign_pre_chain": shared,
            }
        },
        "filters": {"quiet": {"()": QuietLibraries}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "lines", "filters": ["quiet"]}},
        "root": {"handlers": ["stderr"], "level": "INFO"},
        "loggers": {name: {"level": level} for name, level in _NOISY.items()}
        | {
            # Both would write addresses with their queries; request_log has a line for each request.
            "uvicorn.access": {"handlers": [], "propagate": False},
            "django.server": {"handlers": [], "propagate": False},
            "django": {"handlers": [], "propagate": True},
        },
    }


def configure_structlog() -> None:
    """Send structlog's own loggers through the same masks into the standard library's handlers."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            add_correlation,
            describe_exception,
            keep_allowed_fields,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _renderer() -> Processor:
    if sys.stderr.isatty():
        return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    return structlog.processors.JSONRenderer()


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | float | logging.LogRecord):
        return value
    return masked(str(value))[:4000]


def _chain(error: BaseException) -> list[BaseException]:
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain and len(chain) < 5:
        chain.append(cause)
    return chain


def _description(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    places = ", ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames)
    return f"{type(error).__name__}: {masked(str(error))[:500]} ({places})"
