"""A picture of a run: losses, likelihoods, and the KL to the black box on retain rows, over steps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from deltaserve.errors import BadRequest

PANELS: Final[Mapping[str, Sequence[tuple[str, str]]]] = {
    "loss": (("forget", "forget term"), ("retain", "retain term")),
    "likelihood of answers": (
        ("forget_likelihood", "forget, trained on"),
        ("retain_likelihood", "retain, trained on"),
        ("held_out/forget_likelihood", "forget, held out"),
        ("held_out/retain_likelihood", "retain, held out"),
    ),
    "share said greedily, held out": (("held_out/forget_said", "forget"), ("held_out/retain_said", "retain")),
    "KL to the black box on retain (nats)": (("retain_kl", "trained on"), ("held_out/retain_kl", "held out")),
}


def plot(metrics: Sequence[Mapping[str, Any]], folder: Path, title: str) -> list[Path]:
    """run.png and run.svg in `folder`, from the lines of metrics.jsonl. Raises BadRequest without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BadRequest("A plot needs matplotlib: pip install 'deltaserve[train]'.") from error
    figure = Figure(figsize=(10, 7), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for axes, (name, lines) in zip(figure.subplots(2, 2).flat, PANELS.items(), strict=True):
        axes.set(title=name, xlabel="step")
        for key, label in lines:
            _line(axes, metrics, key, label)
        if axes.lines:
            axes.legend()
    paths = [folder / "run.png", folder / "run.svg"]
    for path in paths:
        figure.savefig(path)
    return paths


def _line(axes: Any, metrics: Sequence[Mapping[str, Any]], key: str, label: str) -> None:
    points = [(line["step"], line[key]) for line in metrics if key in line]
    if points:
        axes.plot(*zip(*points, strict=True), label=label, marker="o" if key.startswith("held_out/") else "")
