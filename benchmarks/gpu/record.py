"""What a part measured, told at once and kept in build/bench/gpu.json: a run that is cut off has what it got so far."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.support import report


@dataclass(slots=True)
class Record:
    """Rows and figures of all parts."""

    settings: Mapping[str, Any]  # the card among them
    rows: list[dict[str, Any]] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)

    def row(self, part: str, **cells: Any) -> None:
        """One measurement: a line of JSON."""
        row = {"part": part, **{name: _short(value) for name, value in cells.items()}}
        row["at_s"] = round(time.monotonic() - self._began, 1)
        print(json.dumps(row), flush=True)
        self.rows.append(row)
        self.write()

    def figure(self, name: str, value: float) -> None:
        """A goal's number."""
        self.figures[name] = _short(value)
        self.write()

    def attempt(self, part: str, run: Callable[[], None]) -> None:
        """Runs a part; what it raises is a row, and the next part goes on."""
        began = time.monotonic()
        try:
            run()
        except Exception as error:  # noqa: BLE001  (each part fails alone)
            self.failed.append(part)
            self.row(part, failed=f"{type(error).__name__}: {error}"[:500], **_place(error))
        else:
            self.row(part, done_s=time.monotonic() - began)

    def write(self) -> None:
        report.write("gpu", self.figures, {**self.settings, "failed": self.failed}, self.rows)

    def show(self) -> None:
        report.show(f"figures on {self.settings['card']}", ["figure", "value"], self.figures.items())


def _place(error: BaseException) -> dict[str, Sequence[str]]:
    """Where it was raised: the last lines of code, innermost last."""
    places, trace = [], error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{'/'.join(code.co_filename.rsplit('/', 3)[1:])}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return {"where": places[-5:]}


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value
