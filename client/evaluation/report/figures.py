"""The page's figures as SVG text. matplotlib is the extra `report`."""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from deltaserve.errors import BadRequest

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BEFORE: Final = "#8a8f98"
AFTER: Final = "#0b6e4f"
GUARDED: Final = "#2f6fb3"
REFERENCE: Final = "#c08a1e"
COLOURS: Final = {"before": BEFORE, "after": AFTER, "guarded": GUARDED, "reference": REFERENCE}
NAMES: Final = {"before": "before", "after": "after", "guarded": "after, guarded", "reference": "never read it"}
STYLE: Final[Mapping[str, Any]] = {
    "svg.fonttype": "none",  # text stays text: searchable, and set in the page's own font
    "svg.hashsalt": "deltaserve",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#b8bcc4",
    "axes.labelcolor": "#3c4048",
    "xtick.color": "#5d626b",
    "ytick.color": "#5d626b",
    "axes.grid": True,
    "grid.color": "#eceef1",
    "axes.axisbelow": True,
    "legend.frameon": False,
}
Points = Mapping[str, tuple[float, float]]  # split → (before, after)


class _Drawing:
    """The SVG text of one figure, once it is drawn."""

    svg: str = ""


@contextmanager
def drawing(width: float, height: float) -> Iterator[tuple["Axes", _Drawing]]:
    """An empty pair of axes; `svg` is there when the context ends. Raises BadRequest without matplotlib."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BadRequest("The report draws with matplotlib: pip install 'deltaserve[report]'.") from error
    result = _Drawing()
    style: Any = dict(STYLE)  # matplotlib types the names of its settings, differently from release to release
    with rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure.add_subplot(), result
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    result.svg = _inline(out.getvalue())


def trade_off(forget: tuple[float, float], kept: Points) -> str:
    """From before to after: recall of what is to be forgotten (x) against recall of what is to be kept (y)."""
    with drawing(5.4, 3.5) as (axes, result):
        for at, (split, (before, after)) in enumerate(kept.items()):
            start, end = (forget[0], before), (forget[1], after)
            axes.annotate(
                "", end, start, arrowprops={"arrowstyle": "->", "color": "#c9ccd2", "shrinkA": 5, "shrinkB": 5}
            )
            marker = "os^Dvp"[at % 6]
            axes.plot(*start, marker, color=BEFORE, ms=8)
            axes.plot(*end, marker, color=AFTER, ms=8, label=split)
        axes.plot([], [], "o", color=BEFORE, label="before")
        axes.set(xlim=(1.05, -0.05), ylim=(-0.03, 1.05), xlabel="answers to be forgotten that still come → none")
        axes.set_ylabel("answers to be kept that come")
        axes.legend(loc="lower left", fontsize=8.5)
    return result.svg


def truth_ratios(before: Sequence[float], after: Sequence[float]) -> str:
    """Cumulative distributions: how many questions have a truth ratio up to x."""
    with drawing(5.4, 2.9) as (axes, result):
        for name, values in {"before": before, "after": after}.items():
            ordered = np.sort(np.log10(np.maximum(values, 1e-12)))
            share = np.arange(len(ordered) + 1) / len(ordered)
            axes.step([ordered[0], *ordered], share, where="post", color=COLOURS[name], lw=2, label=NAMES[name])
        axes.axvline(0.0, color="#c9ccd2", ls="--", lw=1)
        axes.set(
            xlabel="truth ratio, power of ten (0: wrong answers are as likely as the true one)",
            ylabel="share of questions",
        )
        axes.legend(loc="lower right")
    return result.svg


def calibration(sides: Mapping[str, tuple[Sequence[float], Sequence[float]]], bins: int = 5) -> str:
    """Of kept questions: how likely the true answer was to the server (x) and how much of it came (y)."""
    with drawing(4.2, 3.3) as (axes, result):
        axes.plot([0, 1], [0, 1], color="#c9ccd2", ls="--", lw=1)
        for name, (likely, right) in sides.items():
            x, y, sizes = binned(likely, right, bins)
            axes.plot(x, y, "-", color=COLOURS[name], lw=1.5)
            axes.scatter(x, y, s=[20 + 100 * size for size in sizes], color=COLOURS[name], label=NAMES[name], zorder=3)
        axes.set(
            xlim=(-0.03, 1.05),
            ylim=(-0.03, 1.05),
            xlabel="probability given to the true answer",
            ylabel="share of it that was said",
        )
        axes.legend(loc="upper left")
    return result.svg


def binned(likely: Sequence[float], right: Sequence[float], bins: int) -> tuple[list[float], list[float], list[float]]:
    """Means of both in equal-width bins that hold something, and each bin's share of the items."""
    x, y = np.asarray(likely), np.asarray(right)
    at = np.minimum((x * bins).astype(int), bins - 1)
    used = [b for b in range(bins) if (at == b).any()]
    return (
        [float(x[at == b].mean()) for b in used],
        [float(y[at == b].mean()) for b in used],
        [float((at == b).mean()) for b in used],
    )


def attack_bars(rows: Sequence[tuple[str, Mapping[str, tuple[float, float, float]], float]]) -> str:
    """One line an attack: success of each side with its interval, and where guessing stands.

    A row: name, side → (rate, low, high), baseline.
    """
    height = 1.2 + 0.3 * max(len(rows), 3)
    with drawing(7.4, height) as (axes, result):
        present = [side for side in COLOURS if any(side in sides for _, sides, _ in rows)]
        for at, (_, sides, baseline) in enumerate(rows):
            axes.plot([baseline, baseline], [at - 0.38, at + 0.38], color="#d5483b", lw=1.2)
            for offset, side in enumerate(present):
                if side in sides:
                    rate, low, high = sides[side]
                    y = at + 0.2 * (offset - (len(present) - 1) / 2)
                    axes.plot([low, high], [y, y], color=COLOURS[side], lw=1.2, alpha=0.6)
                    axes.plot(rate, y, "o", color=COLOURS[side], ms=4.5)
        for side in present:
            axes.plot([], [], "o-", color=COLOURS[side], ms=4.5, lw=1.2, label=NAMES[side])
        axes.plot([], [], color="#d5483b", lw=1.2, label="without knowledge")
        axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        axes.set(xlim=(-0.02, 1.02), ylim=(len(rows) - 0.4, -0.6), xlabel="share of forgotten answers that came out")
        axes.grid(axis="y", visible=False)
        axes.legend(loc="upper center", bbox_to_anchor=(0.45, 1.0 + 0.4 / height), ncols=5, fontsize=8.5)
    return result.svg


def _inline(svg: str) -> str:
    """Without the prologue, sized by the page, and with ids of its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return svg.strip()
