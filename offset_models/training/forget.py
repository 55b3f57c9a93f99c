"""From data to a checkpoint in one go: collect, train, evaluate, pack. What an earlier call has done is not done again.

Collecting asks only for what is missing; a run goes on from its last state and is over when it has all its steps; the
card is kept under a digest of what it was measured on; a checkpoint that is there with the same content is left alone.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import orjson

from deltaserve.errors import BadCheckpoint, BadRequest
from deltaserve.offset_models.checkpoints.checkpoint import read_manifest
from deltaserve.offset_models.checkpoints.manifest import Manifest, check_name
from deltaserve.offset_models.files.digests import digest_of
from deltaserve.offset_models.files.safe_files import write_atomically
from deltaserve.offset_models.progress.progress import Stages
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training.aligning import align, rows_of, use_kept
from deltaserve.offset_models.training.answers import context_of, serving
from deltaserve.offset_models.training.bridging.prompts import OtherTokenizer
from deltaserve.offset_models.training.bridging.reading import BridgedReading, bridged_reading
from deltaserve.offset_models.training.collecting.collected import Collected, read_collected
from deltaserve.offset_models.training.collecting.job import Forecast, Job, collect
from deltaserve.offset_models.training.collecting.source import Source
from deltaserve.offset_models.training.finalists import HeldOutQuestions, by_answers
from deltaserve.offset_models.training.learning.batches import TrainingData, spread
from deltaserve.offset_models.training.learning.fabric import Fabric
from deltaserve.offset_models.training.learning.reporting import Report, all_reports, step_report
from deltaserve.offset_models.training.learning.run_folder import RunFolder
from deltaserve.offset_models.training.learning.settings import TrainingSettings
from deltaserve.offset_models.training.learning.trainer import TrainingFailed
from deltaserve.offset_models.training.packing import Packing, exported, summary, write_candidate
from deltaserve.offset_models.training.rows.dataset import Check, Data, no_check
from deltaserve.offset_models.training.rows.row import Row
from deltaserve.offset_models.training.rows.scored import Scored
from deltaserve.offset_models.training.stages import (
    NOTHING_BETTER,
    Trained,
    likelihood_card,
    recall_card,
    train,
    training_data,
)
from deltaserve.server.upstream.cost import Cost
from deltaserve.server.upstream.listing.methods import MethodName

COLLECTED: Final = "collected"
SIDES: Final = ("train", "held-out")
Announce = Callable[[Forecast], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """One erasure request."""

    name: str
    data: Data
    held: Data | None  # rows that nothing is trained on; None: figures are those of training rows, and say so
    base: Path
    source: Source
    settings: TrainingSettings
    work: Path  # what is collected and trained; `deltaserve collect --purge` empties its collections
    out: Path  # the checkpoint
    licence: str
    method: MethodName | None = None
    skip_bad: bool = False
    choosing: int = 64  # held-out forget rows whose whole answers choose the strength; 0: none are asked for that
    questions: int = 64  # of each side that are asked at the end
    answer_tokens: int = 128
    device: str = "auto"  # the GPU where there is one
    upstream_tokenizer: Path | None = None  # folder of the black box's, where it is not the base's
    minutes: float | None = None  # for all of it: steps, batches and questions as they fit (`within.py`)

    def __post_init__(self) -> None:
        check_name(self.name)

    def collected(self, side: str) -> Path:
        """What the black box says of the rows of one of `SIDES`."""
        return self.work / f"{COLLECTED}-{side}"

    def tokenizer(self) -> Tokenizer:
        """The black box's, whose ids the rows are in."""
        return Tokenizer.load(self.upstream_tokenizer or self.base)

    def box(self, asked: Sequence[Row]) -> OtherTokenizer | None:
        """What serves these rows' questions to a base of another tokenizer; None where it has the black box's.

        Raises BadRow for a question that the base cannot read.
        """
        data = Data(asked, (), ("",))
        reading = bridged_reading(self.upstream_tokenizer, self.base, [data], self.work)
        if reading is None:
            return None
        for row in asked:
            reading.check_asked(row)
        return reading.box


@dataclass(frozen=True, slots=True)
class ForgetResult:
    """What came out."""

    manifest: Manifest
    card: dict[str, float]
    trained: Trained
    run: RunFolder
    new: bool  # False: the checkpoint was there already


def forget(
    plan: Plan, progress: Stages, announce: Announce, report: Report = lambda _step, _figures: None
) -> ForgetResult:
    """All stages. Blocking. Raises DeltaserveError; what was done before a failure is kept."""
    rows = collected_rows(plan, progress, announce)
    return finished(plan, rows, trained_on(plan, rows, progress, report), progress)


@dataclass(frozen=True, slots=True)
class CollectedRows:
    """What is trained on, and what judges it."""

    collected: Collected
    held: Collected | None
    tokenizer: Tokenizer
    reading: BridgedReading | None = None  # how a base of another tokenizer reads them

    @property
    def box(self) -> OtherTokenizer | None:
        return None if self.reading is None else self.reading.box

    def data(self, settings: TrainingSettings) -> TrainingData:
        return training_data(self.collected, self.held, settings, self.tokenizer)


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run; it may have kept nothing."""

    trained: Trained
    data: TrainingData
    folder: RunFolder


def collected_rows(plan: Plan, progress: Stages, announce: Announce) -> CollectedRows:
    """Asks the black box for what is missing. Raises BadRequest for rows that the base cannot read, UpstreamError."""
    every = [plan.data, *([plan.held] if plan.held else [])]
    reading = bridged_reading(plan.upstream_tokenizer, plan.base, every, plan.work)
    if reading is not None:
        use_kept(reading, map(plan.collected, SIDES))
    check = no_check if reading is None else reading.check
    collected = _collected(plan, plan.data, "train", check, progress, announce)
    held = None if plan.held is None else _collected(plan, plan.held, "held-out", check, progress, announce)
    _refuse_long_rows(plan, {"train": collected, **({"held-out": held} if held else {})}, reading, progress)
    return CollectedRows(collected, held, plan.tokenizer(), reading)


def trained_on(
    plan: Plan,
    rows: CollectedRows,
    progress: Stages,
    report: Report = lambda _step, _figures: None,
    out_of_time: Callable[[], bool] = lambda: False,
) -> Run:
    """The run of the plan's settings, or what is left of it."""
    data = rows.data(plan.settings)
    pair = [] if rows.reading is None else [rows.reading.identity]
    folder = RunFolder(plan.work / f"run-{_digest(plan.settings.identity(), data.digest, *pair)}")
    with progress.stage("train", plan.settings.steps) as advance:
        told = all_reports(step_report(advance), report)
        fabric = Fabric.find(plan.device)
        return Run(train(plan.base, data, plan.settings, folder, fabric, told, out_of_time, rows.reading), data, folder)


def finished(plan: Plan, rows: CollectedRows, run: Run, progress: Stages) -> ForgetResult:
    """Chooses how the run is served, measures it, packs it. Raises TrainingFailed where it kept nothing."""
    trained, folder = run.trained, run.folder
    if not trained.kept_step:
        raise TrainingFailed(" ".join(filter(None, (trained.state.stopped, NOTHING_BETTER))))
    trained = _chosen(plan, trained, run, rows, progress)
    packing = _packing(plan, trained, rows)
    card = _card(plan, packing, trained, rows, folder, progress)
    manifest, new = _packed(replace(packing, card={**card, "held_out": rows.held is not None}), trained, folder)
    return ForgetResult(manifest, card, trained, folder, new)


def _collected(plan: Plan, data: Data, side: str, check: Check, progress: Stages, announce: Announce) -> Collected:
    """Asks for what is missing, then reads all of it. What the black box itself answered may be bad too."""
    tokenizer, out = plan.tokenizer(), plan.collected(side)
    job = Job(data, plan.source, tokenizer, out, plan.method, plan.skip_bad, check)
    forecast = asyncio.run(collect(job, progress, announce))
    collected = read_collected(out, data, tokenizer, skip_bad=plan.skip_bad, check=check)
    if bad := tuple(sentence for sentence in collected.bad if sentence not in forecast.bad):
        announce(replace(forecast, cost=Cost(), notes=(), bad=bad))
    return collected


def _refuse_long_rows(
    plan: Plan, collected: Mapping[str, Collected], reading: BridgedReading | None, progress: Stages
) -> None:
    """Before anything is trained. Raises BadRequest."""
    most = context_of(plan.base)
    if reading is None:
        lengths = [len(sample.ids) for each in collected.values() for sample, _ in rows_of(each)]
    else:
        lengths = _read(plan, collected, reading, progress)
    if long := sum(length > most for length in lengths):
        raise BadRequest(
            f"{long} of the rows are longer than the {most} tokens that the base {plan.base.name} can read: "
            "shorten them or leave them out."
        )


def _read(plan: Plan, collected: Mapping[str, Collected], reading: BridgedReading, progress: Stages) -> list[int]:
    """How many tokens of the pair each row is; what is found is kept, for training reads all of them."""
    rows = {side: rows_of(each) for side, each in collected.items()}
    with progress.stage("read in the pair's tokens", sum(map(len, rows.values()))) as advance:
        return [
            length
            for side, of_side in rows.items()
            for length in align(of_side, reading, plan.collected(side), advance)
        ]


def _chosen(plan: Plan, trained: Trained, run: Run, rows: CollectedRows, progress: Stages) -> Trained:
    """Strength and gate as held-out rows chose them; by whole answers where several do as well along the references."""
    asked = spread(run.data.held_forget, plan.choosing) if plan.choosing else []
    device = str(Fabric.find(plan.device).device)
    asking = HeldOutQuestions(asked, plan.source, plan.answer_tokens, device, progress, rows.box)
    return by_answers(trained, _packing(plan, trained, rows), run.data, run.folder, asking)


def _packing(plan: Plan, trained: Trained, rows: CollectedRows) -> Packing:
    about, settings = summary(trained, rows.collected.collection, bridged=rows.box is not None), trained.settings
    return Packing(
        plan.out, plan.name, plan.base, plan.licence, about, settings.served_strength, settings.served_gate_nats
    )


def _card(
    plan: Plan, packing: Packing, trained: Trained, rows: CollectedRows, folder: RunFolder, progress: Stages
) -> dict[str, float]:
    """Likelihoods as the run measured them, recalls of answers as they are served; measured once."""
    held = rows.held or rows.collected
    rows_of = {"forget": spread(held.forget, plan.questions), "retain": spread(held.retain, plan.questions)}
    questions = [sample.digest.hex() for asked in rows_of.values() for sample, _ in asked]
    served = (trained.kept_step, packing.strength, packing.gate_nats)
    path = folder.path / f"card-{_digest(served, questions, plan.answer_tokens)}.json"
    if path.exists():
        card: dict[str, float] = orjson.loads(path.read_bytes())
        return card
    weights = exported(trained, folder, packing.base.name)
    checkpoint = write_candidate(packing, weights, folder, full=trained.settings.full)
    card = likelihood_card(trained.state) | asyncio.run(_recalls(plan, checkpoint, rows_of, rows.box, progress))
    write_atomically(path, orjson.dumps(card))
    return card


async def _recalls(
    plan: Plan,
    checkpoint: Path,
    rows_of: Mapping[str, Sequence[Scored]],
    box: OtherTokenizer | None,
    progress: Stages,
) -> dict[str, float]:
    device = str(Fabric.find(plan.device).device)
    async with serving(
        checkpoint.parent, [checkpoint.name], plan.base, plan.source, plan.answer_tokens, device, box
    ) as served:
        return await recall_card(served, rows_of, progress)


def _packed(packing: Packing, trained: Trained, folder: RunFolder) -> tuple[Manifest, bool]:
    """The checkpoint, and whether it is new. Raises BadCheckpoint when another one is in its place."""
    weights = exported(trained, folder, packing.base.name)
    if not packing.out.exists():
        return packing.write(weights, full=trained.settings.full), True
    there = read_manifest(packing.out)
    candidate = write_candidate(packing, weights, folder, full=trained.settings.full)
    same = there.content_digest == read_manifest(candidate).content_digest and there.strength == packing.strength
    if not same:
        raise BadCheckpoint(
            f"{packing.out} holds another checkpoint; give another --name or --out, or remove it. "
            "What was trained is kept."
        )
    return there, False


def _digest(*parts: Any) -> str:
    return digest_of(parts)[:12]
