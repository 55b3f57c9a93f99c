"""deltaserve report"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deltaserve.client.console import shared
from deltaserve.client.console.terminal import Status, Stop, new_app, note, say

if TYPE_CHECKING:
    from deltaserve.client.evaluation.leakage_results import LeakageReport
    from deltaserve.offset_models.checkpoints.manifest import Manifest

app = new_app()


@app.command()
def report(
    evaluation: Annotated[Path | None, typer.Option(help="What `deltaserve evaluate` wrote.")] = None,
    leakage: Annotated[Path | None, typer.Option(help="What `deltaserve leakage` wrote.")] = None,
    out: Annotated[Path, typer.Option(help="The page: one file that loads nothing.")] = Path("build/report.html"),
    card: Annotated[Path | None, typer.Option(help="Also the evaluation card, as Markdown.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Also put the card into this checkpoint's offset.json.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Its heading; default: what was measured.")] = None,
) -> None:
    """Make one page of what was measured, for people.

    It needs at least one of the two files, and matplotlib (the extra `report`). With a checkpoint alone it prints the
    card that the checkpoint has.
    """
    from deltaserve.client.evaluation.leakage_results import write_readable
    from deltaserve.client.evaluation.report.card import add_to
    from deltaserve.client.evaluation.report.page import heading, html, markdown
    from deltaserve.client.evaluation.results import read_result
    from deltaserve.offset_models.checkpoints.checkpoint import read_manifest

    if evaluation is None and leakage is None and checkpoint is None:
        raise Stop(
            "Say what to report on: --evaluation FILE, --leakage FILE, or both; or --checkpoint DIR for its card.",
            Status.USAGE,
        )
    shared.check_out(out, card)
    if evaluation is None and leakage is None:
        _show_card(read_manifest(checkpoint or Path()), card)
        return
    if checkpoint is not None:
        read_manifest(checkpoint)  # what cannot take the card is told before the page is made
    measured = read_result(evaluation) if evaluation else None
    attacked = _read_leakage(leakage) if leakage else None
    title = title or heading(measured, attacked)
    write_readable(out, html(measured, attacked, title))
    say(str(out))
    text = markdown(measured, attacked, title)
    if card is not None:
        write_readable(card, text)
        say(str(card))
    if checkpoint is not None:
        say(str(add_to(checkpoint, text, measured, attacked)))
        note(
            "The offset's digest is that of its weights and stays; a loaded version shows the card after its next load."
        )


def _show_card(manifest: "Manifest", out: Path | None) -> None:
    """What an earlier report, or the attack at the end of `forget`, put into the checkpoint."""
    from deltaserve.client.evaluation.leakage_results import write_readable

    figures = dict(manifest.card or {})
    text = figures.pop("markdown", None)
    if not isinstance(text, str) and not figures:
        raise Stop(f"The checkpoint of {manifest.name} has no card: give --evaluation or --leakage.")
    lines = [f"| {name} | {value} |" for name, value in figures.items()]
    table = "\n".join(["| figure | value |", "| --- | --- |", *lines])
    whole = "\n\n".join(part.strip() for part in (str(text or f"# {manifest.name}"), table)) + "\n"
    say(whole)
    if out is not None:
        write_readable(out, whole)


def _read_leakage(path: Path) -> "LeakageReport":
    from pydantic import ValidationError

    from deltaserve.client.evaluation.leakage_results import LeakageReport

    try:
        return LeakageReport.model_validate_json(path.read_bytes())
    except OSError as error:
        raise Stop(f"{path} cannot be read: {error.strerror}.", Status.USAGE) from error
    except ValidationError as error:
        raise Stop(f"{path} is no result of `deltaserve leakage`.", Status.USAGE) from error
