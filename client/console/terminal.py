"""How commands speak: answers to stdout, everything else to stderr, and a documented exit status."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

import orjson
import typer

from deltaserve.client.errors import BadAddress, BadText, ClientError, Refused, Unreachable
from deltaserve.errors import (
    BadCheckpoint,
    BadRequest,
    DeltaserveError,
    NotConfigured,
    UncorrectableUpstream,
    UpstreamBusy,
    UpstreamTimeout,
    UpstreamUnreachable,
)

_AWAY = (Unreachable, UpstreamUnreachable, UpstreamTimeout, UpstreamBusy)
_NOT_TAKEN = (Refused, BadRequest, BadCheckpoint, UncorrectableUpstream)


class Status(IntEnum):
    """Exit statuses of every command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        """For the help pages."""
        return _MEANINGS[self]


_MEANINGS = {
    Status.OK: "done; of a check: everything holds",
    Status.FAILED: "the operation failed, or a check did not hold; of a start: its port, host or state folder",
    Status.USAGE: "the command line or the settings are wrong, or one is missing",
    Status.UNREACHABLE: "the server or the black box cannot be reached",
    Status.REFUSED: "the server, the black box or a checkpoint check refused: key, model, request, checkpoint",
    Status.INTERRUPTED: "interrupted before it was done",
}


class Stop(Exception):
    """Ends the command with a sentence and a status."""

    def __init__(self, message: str, status: Status = Status.FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


def new_app(**settings: Any) -> typer.Typer:
    """A command or a group of them. Help is plain text: boxes cut long option names short."""
    plain: dict[str, Any] = {"add_completion": False, "rich_markup_mode": None, "pretty_exceptions_enable": False}
    return typer.Typer(**{**plain, **settings})


@contextmanager
def reported() -> Iterator[None]:
    """Known errors leave as their sentence on stderr and their exit status, never as a traceback."""
    try:
        yield
    except (Stop, ClientError, DeltaserveError) as error:
        note(error.message)
        raise typer.Exit(status_of(error)) from error
    except UnicodeError as error:
        note("What was given is not valid Unicode text (UTF-8): correct it, or the terminal's encoding.")
        raise typer.Exit(Status.USAGE) from error


def status_of(error: Exception) -> Status:
    """The exit status of a known error."""
    if isinstance(error, Stop):
        return error.status
    if isinstance(error, BadAddress | BadText | NotConfigured):
        return Status.USAGE
    if isinstance(error, _AWAY):
        return Status.UNREACHABLE
    return Status.REFUSED if isinstance(error, _NOT_TAKEN) else Status.FAILED


def quiet() -> None:
    """Nothing of the libraries' logs goes to stdout, and of what they say only errors reach stderr."""
    import structlog

    logs = structlog.PrintLoggerFactory(sys.stderr)
    structlog.configure(logger_factory=logs, wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


def say(text: str, end: str = "\n") -> None:
    """A part of the answer: to stdout, at once. What its encoding cannot show is written as escapes."""
    try:
        sys.stdout.write(text + end)
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding or "ascii"
        sys.stdout.write((text + end).encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()


def say_json(value: Any) -> None:
    """The answer for machines."""
    say(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def say_json_line(value: Any) -> None:
    """One of several answers for machines."""
    say(orjson.dumps(value).decode())


def read_stdin() -> str:
    """All of it. Raises Stop unless it is text."""
    return "".join(stdin_lines())


def stdin_lines() -> Iterator[str]:
    """As they come. Raises Stop at the first one that is no text."""
    try:
        yield from sys.stdin
    except UnicodeDecodeError as error:
        raise Stop("What comes in on stdin is not UTF-8 text.", Status.USAGE) from error


def note(text: str, end: str = "\n") -> None:
    """Anything that is not the answer: to stderr."""
    sys.stderr.write(text + end)
    sys.stderr.flush()


def agreed(question: str) -> bool:
    """Whether the person at the terminal says yes. Raises Stop where there is none: `--yes` says it then."""
    if not sys.stdin.isatty():
        raise Stop(f"{question} Give --yes to say so: there is no terminal to ask at.", Status.USAGE)
    return typer.confirm(question, err=True)
