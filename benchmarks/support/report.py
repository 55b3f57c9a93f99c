"""A table on the screen and build/bench/NAME.json beside it."""

import json
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

BUILD = Path("build/bench")


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    return {
        "cpu": model or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load_1m": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": version("torch"),
        "transformers": version("transformers"),
    }


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    table = Table(*columns, title=title, title_justify="left")
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(*[f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row])
    Console(width=160).print(table)


def write(name: str, figures: Mapping[str, float], settings: Mapping[str, Any], rows: Any) -> Path:
    """`figures`: one number per row of the table of goals in docs/performance.md."""
    BUILD.mkdir(parents=True, exist_ok=True)
    path = BUILD / f"{name}.json"
    content = {
        "benchmark": name,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "settings": dict(settings),
        "figures": dict(figures),
        "rows": rows,
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of them lie; NaN for none."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
