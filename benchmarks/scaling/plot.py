"""Draws what `python -m benchmarks.fleet` wrote: python -m benchmarks.scaling.plot build/bench/scaling.json PICTURE"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_PARTS = (
    ("tokens_per_s", "tokens a second", "log"),
    ("replica_s_per_mtok", "replica-seconds a million tokens", "linear"),
    ("swap_s_p99", "seconds until a swap holds everywhere, p99", "linear"),
)


def draw(rows: Sequence[Mapping[str, Any]], picture: Path) -> None:
    """One part for each figure, over the number of replicas."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "deltaserve"}):  # the same picture for the same rows
        figure = Figure(figsize=(11, 3.2), layout="constrained")
        for place, (column, title, scale) in enumerate(_PARTS, start=1):
            axes = figure.add_subplot(1, len(_PARTS), place)
            axes.plot([row["replicas"] for row in rows], [row[column] for row in rows], marker="o")
            axes.set(xscale="log", yscale=scale, xlabel="replicas")
            axes.set_title(title, fontsize=9)
            if scale == "linear":
                axes.set_ylim(bottom=0)
        figure.savefig(picture, metadata={"Date": None})


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text("utf-8"))["rows"], Path(sys.argv[2]))
