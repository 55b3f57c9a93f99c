"""The log of the whole server, and the access line. Numbers, ids and names only: never a prompt or an answer."""

import logging
import time
from typing import Any, Final

import structlog

from deltaserve.server.observability.records import RequestRecord

LOGGER: Final = "deltaserve"


def logger() -> Any:
    """A structlog logger over the standard library's, so that uvicorn's lines and ours share one format."""
    return structlog.wrap_logger(
        logging.getLogger(LOGGER), wrapper_class=structlog.stdlib.BoundLogger, processors=_processors()
    )


def send_structlog_to_logging() -> None:
    """For the whole process: modules that use `structlog.get_logger` log where `log_config` says (stderr)."""
    structlog.configure(
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=_processors(),
        cache_logger_on_first_use=False,
    )


def _processors() -> list[Any]:
    return [
        structlog.stdlib.filter_by_level,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ]


def log_config(level: str, as_json: bool) -> dict[str, Any]:
    """For logging.config.dictConfig: everything to stderr, one JSON object a line or coloured text."""
    renderer = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    foreign = [structlog.stdlib.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": foreign,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    structlog.processors.format_exc_info,
                    renderer,
                ],
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stderr"}},
        "loggers": {
            LOGGER: {"level": level.upper()},
            "uvicorn": {"level": "WARNING"},
        },
        "root": {"handlers": ["stderr"], "level": "ERROR" if level == "error" else "WARNING"},
    }


def log_request(log: Any, record: RequestRecord, method: str, route: str, status: int) -> None:
    """The access line: one a request."""
    log.info(
        "request",
        id=record.id,
        method=method,
        route=route,
        status=status,
        ms=round((time.perf_counter() - record.started) * 1000, 1),
        key=record.client.name or None,
        model=record.model,
        fingerprint=record.fingerprint,
        error=record.error,
        prompt_tokens=record.prompt_tokens,
        completion_tokens=record.completion_tokens,
        upstream_calls=record.upstream_calls,
        replaced=record.replaced,
    )
