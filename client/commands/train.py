"""deltaserve train"""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deltaserve.client.console import shared
from deltaserve.client.console import training_options as options
from deltaserve.client.console.generated import accepts
from deltaserve.client.console.tables import say_table
from deltaserve.client.console.terminal import Status, Stop, new_app, note, quiet, say, say_json

if TYPE_CHECKING:
    from deltaserve.offset_models.training.collecting.collected import Collected
    from deltaserve.offset_models.training.learning.run_folder import RunFolder
    from deltaserve.offset_models.training.rows.dataset import Data
    from deltaserve.offset_models.training.stages import Trained

app = new_app()
Cache = Annotated[Path, typer.Option(file_okay=False, help="What `deltaserve collect` collected of the rows.")]
HeldCache = Annotated[
    Path | None,
    typer.Option("--held-out-cache", file_okay=False, help="What it collected of the held-out rows; default: --cache."),
]


@app.command()
@accepts(options.setting_flags())
def train(
    cache: Cache,
    base: options.Base,
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder of the run; one that was stopped goes on.")],
    forget: options.Forget = None,
    retain: options.Retain = None,
    generic: options.Generic = 0,
    held_out_forget: options.HeldForget = None,
    held_out_retain: options.HeldRetain = None,
    held_out_cache: HeldCache = None,
    upstream_tokenizer: options.UpstreamTokenizer = None,
    refusals: options.Refusals = None,
    paraphrases: options.Paraphrases = True,
    skip_bad: options.SkipBad = False,
    option: options.OptionValues = None,
    target: options.Targets = None,
    device: options.Device = "auto",
    tensorboard: options.Tensorboard = None,
    plot: options.Plot = False,
    as_json: shared.AsJson = False,
    **values: Any,
) -> None:
    """Train an offset on what was collected.

    OUT gets state, metrics.jsonl, the best weights, and weights/ for `deltaserve offsets pack`. The same command goes
    on with a run that was stopped. Several GPUs: `accelerate launch -m deltaserve train …`.
    """
    quiet()
    from deltaserve.offset_models.progress.progress import Progress
    from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
    from deltaserve.offset_models.training.aligning import align, rows_of, use_kept
    from deltaserve.offset_models.training.bridging.reading import bridged_reading, check_tokenizers
    from deltaserve.offset_models.training.collecting.collected import read_collected
    from deltaserve.offset_models.training.learning.fabric import Fabric
    from deltaserve.offset_models.training.learning.reporting import all_reports, step_report
    from deltaserve.offset_models.training.learning.reporting import tensorboard as event_files
    from deltaserve.offset_models.training.learning.run_folder import RunFolder
    from deltaserve.offset_models.training.rows.dataset import no_check
    from deltaserve.offset_models.training.stages import train as train_offset
    from deltaserve.offset_models.training.stages import training_data

    settings = options.read_settings(values, option, target)
    rows = options.sources(forget, retain, generic, refusals, skip_bad, paraphrases)
    judged = options.held_out(held_out_forget, held_out_retain, refusals, skip_bad)
    check_tokenizers(upstream_tokenizer, base)
    tokenizer = Tokenizer.load(upstream_tokenizer or base)
    trained_on = rows.data(options.answers_needed(settings, judged=judged is None), 1)
    judged_by = None if judged is None else judged.data("reference", 1)
    every = [trained_on, *([] if judged_by is None else [judged_by])]
    reading = bridged_reading(upstream_tokenizer, base, every, out)
    check = no_check if reading is None else reading.check
    if reading is not None:
        use_kept(reading, [cache, held_out_cache or cache])

    def read(data: "Data", folder: Path) -> "Collected":
        collected = read_collected(folder, data, tokenizer, skip_bad=skip_bad, check=check)
        options.note_left_out(collected.bad)
        if reading is not None:
            align(rows_of(collected), reading, folder)
        return collected

    held = None if judged_by is None else read(judged_by, held_out_cache or cache)
    data = training_data(read(trained_on, cache), held, settings, tokenizer)
    fabric = Fabric.find(device)
    with ExitStack() as stack:
        bar = stack.enter_context(Progress(visible=fabric.main))
        reports = [step_report(stack.enter_context(bar.stage("train", settings.steps)))]
        if tensorboard is not None and fabric.main:
            reports.append(stack.enter_context(event_files(tensorboard, first_step(out))))
        told = all_reports(*reports)
        trained = train_offset(base, data, settings, RunFolder(out), fabric, told, reading=reading)
    if fabric.main:
        finish(trained, RunFolder(out), base, plot, as_json)


def first_step(folder: Path) -> int:
    """The step that a run in `folder` goes on with."""
    from deltaserve.offset_models.training.learning.run_folder import read_state

    state = read_state(folder)
    return 1 if state is None else state.step + 1


def finish(trained: "Trained", folder: "RunFolder", base: Path, plot: bool, as_json: bool) -> None:
    """Exports the weights and prints the figures of the run."""
    from deltaserve.offset_models.training.learning.reporting import plot as draw
    from deltaserve.offset_models.training.packing import exported
    from deltaserve.offset_models.training.stages import NOTHING_BETTER, likelihood_card

    weights = exported(trained, folder, base.name)
    if plot:
        draw(folder.metrics(), folder.path, trained.settings.objective)
    state, settings = trained.state, trained.settings
    if state.stopped is not None:
        note(state.stopped)
    served = {"strength": settings.served_strength, "gate_nats": settings.served_gate_nats}
    figures = {"steps": state.step, "kept_step": trained.kept_step, **served, **likelihood_card(state)}
    if as_json:
        say_json({"weights": str(weights), "stopped": state.stopped, **figures})
    else:
        say_table(("figure", "value"), [(name, str(value)) for name, value in figures.items()])
        say(f"{weights}: of step {trained.kept_step}; give strength and gate to `deltaserve offsets pack`.")
    if not trained.kept_step:
        raise Stop(NOTHING_BETTER, Status.FAILED)
