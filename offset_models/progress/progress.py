"""Shows the progress of long work on stderr (bars at a terminal, else lines) and adds up the time of each stage."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from deltaserve.offset_models.progress.pace import Pace, Ticker, shown

Advance = Callable[..., None]


class Stages(Protocol):
    """Where long work tells of its progress."""

    def stage(self, name: str, total: int) -> AbstractContextManager[Advance]:
        """Gives what to call for every piece of work done."""


class Progress:
    """Shown or not, it measures."""

    def __init__(self, *, visible: bool) -> None:
        console = Console(stderr=True)
        self._lines = visible and not console.is_terminal
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[note]}"),
        )
        self._bars = Bars(*columns, console=console, disable=not visible or self._lines)
        self._running: dict[str, tuple[Pace, str]] = {}  # by stage, with the last words about it
        self._began = time.monotonic()
        self._stack = ExitStack()
        self.seconds: dict[str, float] = {}

    def __enter__(self) -> Self:
        if self._lines:
            self._stack.enter_context(Ticker(self._tell, _say))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self._bars.stop()

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        """One bar. Call what it gives for every piece of work done, with a few words on how it goes."""
        self._bars.start()  # with the first stage: without one, nothing is drawn at all
        task = self._bars.add_task(name, total=total, note="", left="")
        pace = Pace(total)
        self._running[name] = pace, ""

        def advance(note: str = "") -> None:
            pace.advance()
            self._running[name] = pace, note
            left = pace.left_s
            self._bars.update(task, advance=1, note=note, left="" if left is None else f"{shown(left)} left")

        try:
            yield advance
        finally:
            del self._running[name]
            self.seconds[name] = round(self.seconds.get(name, 0.0) + pace.elapsed_s, 1)
            if self._lines:
                _say(f"{name}: {pace.done} of {total} in {pace.elapsed_s:.0f} s")

    def _tell(self) -> Iterator[str]:
        """A line for every stage that runs; between two, that there is work."""
        running = list(self._running.items())
        for name, (pace, note) in running:
            yield f"{name}: {pace}" + (f" ({note})" if note else "")
        if not running:
            yield f"working, {time.monotonic() - self._began:.0f} s so far"


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
