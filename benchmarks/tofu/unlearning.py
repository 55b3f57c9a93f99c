"""What forgets: an offset for every objective, and the black box's own weights tuned by the same losses."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from shutil import rmtree
from typing import Any

import torch

from benchmarks.support.processes import black_box
from benchmarks.tofu.bench import SEED, Bench
from deltaserve.offset_models.checkpoints.pack import copy_tokenizer
from deltaserve.offset_models.progress.progress import Progress
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training.collecting.collected import Collected, read_collected
from deltaserve.offset_models.training.collecting.job import Job
from deltaserve.offset_models.training.collecting.job import collect as collect_rows
from deltaserve.offset_models.training.collecting.source import Source
from deltaserve.offset_models.training.learning.batches import TrainingData
from deltaserve.offset_models.training.learning.fabric import Fabric
from deltaserve.offset_models.training.learning.objectives import objective_names
from deltaserve.offset_models.training.learning.reporting import step_report
from deltaserve.offset_models.training.learning.run_folder import RunFolder
from deltaserve.offset_models.training.learning.settings import TrainingSettings
from deltaserve.offset_models.training.learning.trainer import TrainingFailed
from deltaserve.offset_models.training.packing import Packing, summary
from deltaserve.offset_models.training.rows.dataset import Data
from deltaserve.offset_models.training.rows.loading import load, read_refusals
from deltaserve.offset_models.training.stages import NOTHING_BETTER, Trained, train, training_data

LICENCE = "MIT"  # TOFU's
OPTIONS: dict[str, dict[str, float]] = {"simnpo": {"beta": 4.5}}  # the paper's, on answers of this length
NO_DIRECT = "contrast"  # two small models; there is nothing to tune directly


def objectives(bench: Bench) -> Sequence[str]:
    """Those of the scale, or every one that is registered."""
    return bench.scale.objectives or objective_names()


def direct_objectives(bench: Bench) -> list[str]:
    """Those of the scale that are registered."""
    return [name for name in bench.scale.direct_objectives if name in objective_names() and name != NO_DIRECT]


def collect(bench: Bench) -> None:
    """The black box's top-k along every row that offsets are trained on, asked once for all objectives."""
    tokenizer, data = Tokenizer.load(bench.offsets / "base"), training_rows(bench)
    with black_box(weights=bench.model("blackbox").parent) as box, Progress(visible=True) as shown:
        source = Source(box.url + "/v1", "", bench.scale.top_k)
        job = Job(data, source, tokenizer, bench.work / "collected")
        asyncio.run(collect_rows(job, shown, lambda _forecast: None))


def make_offset(bench: Bench, objective: str) -> None:
    """A checkpoint of that name below the offsets root."""
    base, out, work = bench.offsets / "base", bench.offsets / objective, bench.work / "training" / objective
    options = OPTIONS.get(objective, {})
    settings = TrainingSettings(objective=objective, options=options, seed=SEED, **_looked_at(bench.scale.offset))
    gathered = _gathered(bench)
    trained = _trained(base, training_data(gathered, None, settings, Tokenizer.load(base)), settings, work)
    if not trained.kept_step:
        raise TrainingFailed(" ".join(filter(None, (trained.state.stopped, NOTHING_BETTER))))
    rmtree(out, ignore_errors=True)
    weights = work / "weights"
    trained.student.save(weights, base.name)
    packing = Packing(
        out,
        objective,
        base,
        LICENCE,
        summary(trained, gathered.collection),
        settings.served_strength,
        settings.served_gate_nats,
    )
    packing.write(weights, full=settings.full)


def make_direct(bench: Bench, objective: str) -> None:
    """The black box with its own weights tuned by the objective: q is the tuned model itself."""
    source, out = bench.model("blackbox"), bench.model(f"direct-{objective}")
    settings = TrainingSettings(objective=objective, seed=SEED, strength=1.0, **_looked_at(bench.scale.direct))
    data = training_data(_without_lists(_gathered(bench)), None, settings, Tokenizer.load(source))
    trained = _trained(source, data, settings, bench.work / "training" / f"direct-{objective}")
    trained.student.save(out, source.name)
    copy_tokenizer(source, out)


def training_rows(bench: Bench) -> Data:
    """The forget set with both its answers and refusals, and what must stay."""
    forget, retain = (load(bench.rows / f"{side}.jsonl", answered=True).rows for side in ("forget", "retain"))
    return Data(forget, retain, read_refusals(bench.rows / "refusals.jsonl"), "both", bench.scale.answer_tokens)


def _looked_at(settings: dict[str, Any]) -> dict[str, Any]:
    """Evaluated at the end only, unless the scale says otherwise: the table measures for itself."""
    return {"eval_every": 50, **settings}


def _gathered(bench: Bench) -> Collected:
    return read_collected(bench.work / "collected", training_rows(bench), Tokenizer.load(bench.offsets / "base"))


def _without_lists(gathered: Collected) -> Any:
    """The same samples with no black box beside them: the model that is tuned is its own."""
    sides = ([(sample, None) for sample, _ in rows] for rows in (gathered.forget, gathered.refused, gathered.retain))
    return Collected(*sides, gathered.collection)  # type: ignore[arg-type]  # lists are what it lacks on purpose


def _trained(base: Path, data: TrainingData, settings: TrainingSettings, work: Path) -> Trained:
    work.mkdir(parents=True, exist_ok=True)
    with Progress(visible=True) as shown, shown.stage(settings.objective, settings.steps) as advance:
        return train(base, data, settings, RunFolder(work / "run"), Fabric(torch.device("cpu")), step_report(advance))
