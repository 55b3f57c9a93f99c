"""A progress bar with a stage for everything that takes time, on stderr; adds up how long each stage took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

Advance = Callable[..., None]


class Progress:
    """Shown or not, it measures."""

    def __init__(self, *, visible: bool) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._bars = Bars(*columns, console=Console(stderr=True), disable=not visible)
        self.seconds: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        """One bar. Call what it gives for every piece of work done, with a few words on how it goes."""
        self._bars.start()  # with the first stage: without one, nothing is drawn at all
        task = self._bars.add_task(name, total=total, note="")
        started = time.monotonic()
        try:
            yield lambda note="": self._bars.update(task, advance=1, note=note)
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - started, 1)
