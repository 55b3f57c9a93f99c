"""Turns whatever another library raises over a checkpoint's files into one BadCheckpoint with a sentence."""

import asyncio
import logging
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from deltaserve.errors import BadCheckpoint, DeltaserveError

MAX_CAUSE: Final = 240  # characters of the library's own words
_PASSED_ON: Final = (DeltaserveError, KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError)
_OUT_OF_MEMORY: Final = {"MemoryError", "OutOfMemoryError"}  # Python's and torch's; torch need not be imported here
_PATH: Final = re.compile(r"(?<![\w:/.])/(?:[^\s'\"`,]+/)*(?=[^\s'\"`,/])")

_log = logging.getLogger(__name__)


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """What is raised inside and is not ours becomes BadCheckpoint(`what` and why). Also a decorator.

    A panic of a Rust library is no Exception, so everything is caught that is not a way of ending the program.
    """
    try:
        yield
    except _PASSED_ON:
        raise
    except BaseException as error:
        _log.debug("%s", what, exc_info=error)
        refusal = BadCheckpoint(f"{what}: {cause_of(error)}.")
        _forget_locals(error)
        raise refusal from error


def cause_of(error: BaseException) -> str:
    """Why, in the library's first words: no line breaks, no folders, not long, without a full stop."""
    if _is_out_of_memory(error):
        return "it does not fit into the memory that is left; unload another offset first, or choose a smaller dtype"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, OSError) and error.strerror:
        where = f" ({Path(str(error.filename)).name})" if error.filename else ""
        return f"{error.strerror}{where}"
    words = _PATH.sub("", _first_words(str(error)))
    if len(words) > MAX_CAUSE:
        words = f"{words[:MAX_CAUSE].rpartition(' ')[0] or words[:MAX_CAUSE]} …"
    return f"{type(error).__name__}, {words.rstrip('.:')}" if words else type(error).__name__


def _first_words(text: str) -> str:
    """The first line, and the second where the first only announces it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()][:2]
    return " ".join(lines if lines and lines[0].endswith(":") else lines[:1])


def _is_out_of_memory(error: BaseException) -> bool:
    named = any(kind.__name__ in _OUT_OF_MEMORY for kind in type(error).__mro__)
    return named or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


def _forget_locals(error: BaseException) -> None:
    """Drops the locals of the traceback's frames: they hold a half-read model, which would live on."""
    seen: BaseException | None = error
    while seen is not None:
        traceback.clear_frames(seen.__traceback__)
        seen = seen.__cause__ or seen.__context__
