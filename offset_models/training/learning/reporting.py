"""Reports of a run's steps: to the progress bar, as a picture, to TensorBoard."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from deltaserve.errors import BadRequest

Report = Callable[[int, Mapping[str, float]], None]  # steps done, named figures (losses in nats)

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


def all_reports(*reports: Report) -> Report:
    """One report that goes to several."""

    def tell(step: int, figures: Mapping[str, float]) -> None:
        for report in reports:
            report(step, figures)

    return tell


def step_report(advance: Callable[..., None]) -> Report:
    """One piece of work for every step; beside the bar its losses, both likelihoods, and the KL on retain rows."""

    def tell(_step: int, figures: Mapping[str, float]) -> None:
        if "forget" in figures:
            losses = f"forget {figures['forget']:.2f} retain {figures['retain']:.2f}"
            likely = f"likely {figures['forget_likelihood']:.2f}/{figures['retain_likelihood']:.2f}"
            advance(f"{losses} {likely} KL {figures['retain_kl']:.3f}")

    return tell


@contextmanager
def tensorboard(folder: Path, first_step: int) -> Iterator[Report]:
    """A report that writes event files; what an earlier run wrote from `first_step` on is dropped by the viewer.

    Raises BadRequest when TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise BadRequest("Event files need TensorBoard: pip install 'deltaserve[train]'.") from error
    writer = SummaryWriter(str(folder), purge_step=first_step)

    def tell(step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, step)

    try:
        yield tell
    finally:
        writer.close()


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
