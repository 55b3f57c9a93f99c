"""deltaserve collect"""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from deltaserve.client.console import shared
from deltaserve.client.console import training_options as options
from deltaserve.client.console.terminal import Status, Stop, agreed, new_app, note, quiet, say, say_json
from deltaserve.server.upstream.listing.methods import MethodName

if TYPE_CHECKING:
    from deltaserve.offset_models.training.collecting.job import Forecast, Job

app = new_app()


@app.command()
def collect(
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for what the black box says.")],
    forget: options.Forget = None,
    retain: options.Retain = None,
    generic: options.Generic = 0,
    refusals: options.Refusals = None,
    forget_answers: Annotated[
        Literal["reference", "refusal", "both"],
        typer.Option(help="Score the forget set's own answers (reference), refusals in their place, or both."),
    ] = "both",
    paraphrases: options.Paraphrases = True,
    upstream: Annotated[
        str | None, typer.Option("--upstream", help=f"The black box; else {shared.UPSTREAM_VARIABLE}.")
    ] = None,
    upstream_key: Annotated[
        str | None,
        typer.Option(help=f"Its API key; else {shared.UPSTREAM_KEY_VARIABLE}, for {shared.UPSTREAM_VARIABLE} only."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Its model name; default: the only one it lists.")] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Folder with the black box's tokenizer: mostly the base model's."),
    ] = None,
    k: Annotated[int, typer.Option(min=1, help="How many alternatives to ask for at each position.")] = 20,
    answer_tokens: Annotated[
        int, typer.Option(min=1, help="Longest answer of the black box to a retain row without one.")
    ] = 128,
    method: Annotated[
        MethodName | None, typer.Option(help="How to score the text. Default: the cheapest that works.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Calls at a time.")] = 4,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the answer to one call.")] = 120.0,
    skip_bad: options.SkipBad = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Probe the black box, show what would be asked, and stop.")
    ] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Delete the forget files and everything collected; digests stay.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Purge without asking.")] = False,
    as_json: shared.AsJson = False,
) -> None:
    """Fetch a black box's top-k along the training text.

    Rows are {question, answer}, {messages}, {prompt, completion} or {text}, one a line; retain rows without an answer
    are answered by the black box. What was fetched is kept in OUT: a run that was stopped goes on where it was.
    """
    quiet()
    if purge and dry_run:
        raise Stop("--purge deletes and --dry-run only tells: give one of them.", Status.USAGE)
    if purge:
        _purge(out, forget or [], yes, as_json)
        return
    address = shared.upstream_address(upstream, upstream_key)
    if tokenizer is None:
        raise Stop(
            "Give --tokenizer, the folder of the black box's tokenizer: mostly that of the pair's base model.",
            Status.USAGE,
        )
    rows = options.sources(forget, retain, generic, refusals, skip_bad, paraphrases)

    from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
    from deltaserve.offset_models.training.collecting.job import Job
    from deltaserve.offset_models.training.collecting.source import Source

    source = Source(address.root, model or "", k, concurrency, timeout, address.key)
    job = Job(rows.data(forget_answers, answer_tokens), source, Tokenizer.load(tokenizer), out, method, skip_bad)
    _run(job, dry_run, as_json)


def _run(job: "Job", dry_run: bool, as_json: bool) -> None:
    from deltaserve.offset_models.progress.progress import Progress
    from deltaserve.offset_models.training.collecting.job import collect as collect_rows

    with Progress(visible=not dry_run) as bar:
        forecast = asyncio.run(collect_rows(job, bar, _remark if dry_run else _announce, dry_run=dry_run))
    if as_json:
        facts = forecast.collection.model_dump(exclude={"complete", "purged_at"})
        figures = {"samples": forecast.samples, "cached": forecast.cached, "unanswered": forecast.unanswered}
        say_json({"dry_run": dry_run, **facts, **figures, **asdict(forecast.cost), "left_out": list(forecast.bad)})
    elif dry_run:
        for line in _figures(forecast):
            say(line)
    else:
        say(f"{job.out}: {forecast.samples} samples of {forecast.collection.model}, top {forecast.collection.k}")


def _announce(forecast: "Forecast") -> None:
    """Prints the forecast on stderr, before the first call."""
    _remark(forecast)
    note("; ".join(_figures(forecast)) + ".")


def _remark(forecast: "Forecast") -> None:
    options.note_left_out(forecast.bad)
    for text in forecast.notes:
        note(f"Note: {text}")


def _figures(forecast: "Forecast") -> list[str]:
    facts, cost = forecast.collection, forecast.cost
    lines = [f"{forecast.samples} samples, {forecast.cached} of them known"]
    if not cost.calls:
        return [*lines, "nothing to ask"]
    if forecast.unanswered:
        lines.append(f"{forecast.unanswered} answers of the black box, up to {facts.answer_tokens} tokens each")
    return [
        *lines,
        f"{facts.model}, top {facts.k} by {facts.method}",
        f"{cost.calls:,} calls, {cost.prompt_tokens:,} prompt tokens, at most {cost.generated_tokens:,} generated ones",
    ]


def _purge(out: Path, forget: list[str], yes: bool, as_json: bool) -> None:
    from deltaserve.offset_models.training.collecting.folder import leftovers, purge
    from deltaserve.offset_models.training.rows.loading import HUB, load

    files = [Path(source) for source in forget if not source.startswith(HUB)]
    if absent := [path for path in files if not path.is_file()]:
        raise Stop(f"{absent[0]} is no file: nothing was deleted.", Status.USAGE)
    named = ", ".join(map(str, files)) or "no forget file (none was given)"
    if not yes and not agreed(f"Delete {named} and what was collected in {out}? This cannot be undone."):
        raise Stop("Nothing was deleted.", Status.INTERRUPTED)
    rows = [row for path in files for row in load(path).rows]
    gone = purge(out, files)
    left = leftovers(out, rows)
    if as_json:
        say_json({"deleted": [str(path) for path in gone], "left": [str(path) for path in left]})
    else:
        say(f"Deleted {len(gone)} files; {out / 'collection.json'} keeps the digests.")
    if left:
        raise Stop("Text of the forget set is still in " + ", ".join(map(str, left)) + ".", Status.FAILED)
