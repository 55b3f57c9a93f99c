"""The table's models, trained from nothing: the black box, the one that never read the forget set, the pair's base."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from benchmarks.tofu.bench import SEED, Bench, Row
from deltaserve.offset_models.demo.pipeline.pretrain import Schedule, Shape, new_model, save_model, train
from deltaserve.offset_models.demo.pipeline.tokenizer import save_tokenizer, train_tokenizer
from deltaserve.offset_models.progress.progress import Progress
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer


def make_tokenizer(bench: Bench) -> None:
    """One for all: a pair must share its black box's. It has read the forget set, as a real black box's has."""
    subset = bench.subset
    everything = [*subset.forget, *subset.known, *subset.language]
    pages = islice(bench.pages("tokenizer", everything), len(everything))
    tokenizer = train_tokenizer(pages, bench.scale.vocab_size)
    for folder in (bench.model("blackbox"), bench.model("retrained"), bench.offsets / "base"):
        save_tokenizer(tokenizer, folder, bench.scale.black_box.context)


def make_black_box(bench: Bench) -> None:
    """What is to forget: reads the forget set like everything else."""
    rows = [*bench.subset.forget, *bench.subset.known]
    _train(bench, bench.model("blackbox"), rows, bench.scale.black_box, bench.scale.black_box_schedule)


def make_retrained(bench: Bench) -> None:
    """The same model as if the forget set had never been there; it reads each other row as often."""
    share = len(bench.subset.known) / (len(bench.subset.known) + len(bench.subset.forget))
    plan = bench.scale.black_box_schedule
    shorter = Schedule(
        round(plan.steps * share), plan.batch, plan.learning_rate, plan.label_smoothing, plan.warm_up, plan.weight_decay
    )
    _train(bench, bench.model("retrained"), bench.subset.known, bench.scale.black_box, shorter)


def make_base(bench: Bench) -> None:
    """The pair's smaller base: the language and what everybody knows, nothing of the forget set."""
    rows = [*bench.subset.known, *bench.subset.language]
    _train(bench, bench.offsets / "base", rows, bench.scale.base, bench.scale.base_schedule)


def _train(bench: Bench, folder: Path, rows: Sequence[Row], shape: Shape, schedule: Schedule) -> None:
    disable_progress_bar()  # type: ignore[no-untyped-call, unused-ignore]
    tokenizer = Tokenizer.load(folder).backend
    model = new_model(shape, tokenizer, SEED)
    with Progress(visible=True) as shown, shown.stage(folder.parent.name, schedule.steps) as advance:
        pages = bench.pages("training", rows)
        train(model, tokenizer, pages, schedule, lambda _step, loss: advance(f"loss {loss:.2f}"))
    save_model(model, folder)
