"""The stages between collecting and packing: train, choose strength and gate, measure."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import torch
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from deltaserve.errors import BadRequest
from deltaserve.offset_models.checkpoints.model_files import load_model
from deltaserve.offset_models.engine.forward.attention import without_plans_per_length
from deltaserve.offset_models.engine.host_memory import keep_freed
from deltaserve.offset_models.files.digests import model_digest
from deltaserve.offset_models.files.library_errors import refusing
from deltaserve.offset_models.progress.progress import Stages
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training.answers import ServedCheckpoint, prompts_of, references_of, rouge_l_recall
from deltaserve.offset_models.training.bridging.reading import BridgedReading
from deltaserve.offset_models.training.collecting.collected import Collected
from deltaserve.offset_models.training.learning.batches import TrainingData
from deltaserve.offset_models.training.learning.calibration import (
    Candidate,
    as_trained,
    calibrated,
    candidates_of,
    outcomes_of,
    served_by,
    to_be_chosen,
)
from deltaserve.offset_models.training.learning.fabric import Fabric
from deltaserve.offset_models.training.learning.held_out import Figures, Outcome, evaluate
from deltaserve.offset_models.training.learning.objective import Answer
from deltaserve.offset_models.training.learning.passes.initial import InitialStates
from deltaserve.offset_models.training.learning.passes.precision import half, with_precision
from deltaserve.offset_models.training.learning.reporting import Report
from deltaserve.offset_models.training.learning.run_folder import Calibration, RunFolder, RunState
from deltaserve.offset_models.training.learning.settings import TrainingSettings
from deltaserve.offset_models.training.learning.student import Student, new_student
from deltaserve.offset_models.training.learning.trainer import Trainer
from deltaserve.offset_models.training.rows.answered import answered
from deltaserve.offset_models.training.rows.generic import generic
from deltaserve.offset_models.training.rows.scored import Scored
from deltaserve.server.serving.versions import json_object

NOTHING_BETTER: Final = (
    "No evaluation was better than the black box itself: nothing is worth keeping. Train longer, at another learning "
    "rate, or with another retain weight."
)


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished run; the student has the weights that are worth keeping."""

    student: Student
    settings: TrainingSettings
    state: RunState
    outcomes: Mapping[Candidate, Outcome] = field(default_factory=dict)  # what strength and gate were chosen from

    @property
    def kept_step(self) -> int:
        return self.state.step if self.state.best_step is None else self.state.best_step


def training_data(
    collected: Collected, held: Collected | None, settings: TrainingSettings, tokenizer: Tokenizer
) -> TrainingData:
    """What the objective needs of what was collected. Without `held`, evaluations look at training rows.

    Raises BadRequest when the answers that the objective trains on were not collected.
    """
    answers: dict[Answer, Sequence[Scored]] = {"reference": collected.forget, "refusal": collected.refused}
    for answer in settings.chosen.collected:
        if not answers[answer]:
            raise BadRequest(f"{settings.objective} trains on {answer} answers, which were not collected.")
    seen, wanted = held or collected, settings.chosen.answers
    forget: dict[Answer, Sequence[Scored]] = {answer: answers[answer] for answer in answers if answer in wanted}
    if "generic" in wanted:
        pairs = zip(collected.forget, collected.refused, strict=True)
        forget["generic"] = [generic(*pair, tokenizer) for pair in pairs]
    return TrainingData(
        forget,
        collected.retain,
        seen.forget,
        answered(seen.retain, tokenizer),
        held_out=bool(held and held.forget and held.retain),
    )


def train(
    base: Path,
    data: TrainingData,
    settings: TrainingSettings,
    folder: RunFolder,
    fabric: Fabric,
    report: Report,
    out_of_time: Callable[[], bool] = lambda: False,
    reading: BridgedReading | None = None,
) -> Trained:
    """Train u on the base at `base`, or go on where the folder's run stopped; then choose how it is served.

    `reading`: how a base of another tokenizer reads the data. Past `out_of_time` no further step is made.
    Raises BadRequest, TrainingFailed.
    """
    trainer = replace(_trainer(base, data, settings, folder, fabric, report, reading), out_of_time=out_of_time)
    state = trainer.run(model_digest(base) + ("" if reading is None else reading.identity))
    fabric.wait()
    if state.best_step is not None:
        folder.load_best(trainer.student)
    return _calibrated(Trained(trainer.student, trainer.settings, state), data, folder, trainer)


def rehearse(
    base: Path, data: TrainingData, settings: TrainingSettings, fabric: Fabric, reading: BridgedReading | None = None
) -> list[float]:
    """When a run of a few steps, which is thrown away, began, ended each step, and was over with its evaluation.

    Seconds on one clock: its length is the number of steps + 2.
    """
    times = [time.monotonic()]

    def told(_step: int, figures: Mapping[str, float]) -> None:
        if "learning_rate" in figures:  # a step, no evaluation
            times.append(time.monotonic())

    with TemporaryDirectory() as folder:
        settings = replace(settings, eval_every=0, patience=0)
        _trainer(base, data, settings, RunFolder(Path(folder)), fabric, told, reading).run()
    return [*times, time.monotonic()]


def _trainer(
    base: Path,
    data: TrainingData,
    settings: TrainingSettings,
    folder: RunFolder,
    fabric: Fabric,
    report: Report,
    reading: BridgedReading | None,
) -> Trainer:
    """With a pair that is the base twice, and settings that know the rows' tokenizer, base and machine."""
    keep_freed()
    tokenizer = Tokenizer.load(base) if reading is None else reading.bridge.box.tokenizer
    end_id = end_of(data.forget.get("reference", ()), tokenizer)
    settings = replace(settings, vocab_size=tokenizer.vocab_size, masked_ids=tokenizer.masked_ids, end_id=end_id)
    if reading is not None:
        # Stronger than it was trained, it spoils kept answers, and rows read along given answers do not show that.
        settings = replace(settings, extrapolate=settings.extrapolate or 1.0)
    settings = with_precision(settings, fabric.device, _width(base))
    model = load_base(base, fabric.device, settings)
    if settings.learning_rate is None:
        settings = settings.for_width(model.config.hidden_size)
    return Trainer(new_student(model, settings, reading), data, settings, folder, fabric, report)


def _width(base: Path) -> int:
    """The base's hidden size; 0 where it does not say."""
    return int((json_object(base / "config.json") or {}).get("hidden_size") or 0)


def end_of(rows: Sequence[Scored], tokenizer: Tokenizer) -> int | None:
    """The token that ends most of these answers: that of chats, or of texts; None where nothing ends any."""
    ends = (*tokenizer.answer_end, *tokenizer.eos_ids[:1])
    last = [sample.answer_ids[-1] for sample, _ in rows]
    return max(ends, key=last.count, default=None)


def _calibrated(trained: Trained, data: TrainingData, folder: RunFolder, trainer: Trainer) -> Trained:
    """Strength and gate chosen, and the best figures as they are served. What a folder has is not measured again."""
    if not data.held_out or not trained.kept_step:
        return replace(trained, settings=as_trained(trained.settings))
    candidates = [[c.extrapolate, c.gate_nats] for c in candidates_of(trained.settings)]
    about = {"run": trained.state.run, "kept_step": trained.kept_step, "candidates": candidates}
    known = folder.record(Calibration, about)
    if known is None:
        open_to_choice = to_be_chosen(data, trained.settings)
        outcomes = outcomes_of(trained.student, data, trained.settings, trainer.initial) if open_to_choice else {}
        settings = calibrated(outcomes, trained.settings)
        chosen = Candidate(settings.extrapolate or 1.0, settings.served_gate_nats)
        known = Calibration(chosen, figures_of(trained, settings, data, trainer.initial), outcomes)
        if trainer.fabric.main:
            folder.save_record(about, known)
    settings, state = served_by(trained.settings, known.chosen), replace(trained.state, best=known.figures)
    return replace(trained, settings=settings, state=state, outcomes=known.outcomes)


def figures_of(
    trained: Trained, settings: TrainingSettings, data: TrainingData, initial: InitialStates | None = None
) -> Figures:
    """Of the weights worth keeping as `settings` serve them, on the rows that the figures before are of."""
    seen = data.evaluated
    return evaluate(trained.student, seen.held_forget, seen.held_retain, settings, initial)


def load_base(folder: Path, device: torch.device, settings: TrainingSettings) -> PreTrainedModel:
    """The pair's initial model: bfloat16 where it computes in that. Raises BadCheckpoint.

    For a copy that is trained in float32 it stays in float32 too: what is added up along the layers must round alike.
    """
    disable_progress_bar()  # type: ignore[no-untyped-call, unused-ignore]  # of saving, too
    if device.type == "cuda":
        without_plans_per_length()
    halved = half(settings, device) and not settings.full
    # On CPUs the fused attention's gradient takes five times as long in bfloat16 as the plain one's.
    attention = "eager" if halved and device.type == "cpu" else "sdpa"
    model = load_model(folder, torch.bfloat16 if halved else torch.float32, attention=attention)
    nn_module: torch.nn.Module = model
    with refusing(f"{folder.name} cannot be put on {device}"):
        nn_module.to(device)
    return model


def likelihood_card(state: RunState) -> dict[str, float]:
    """Probability (TOFU's) and retain KL before and after, as the run measured them."""
    card = {}
    for when, figures in (("black_box", state.before), ("corrected", state.best)):
        if figures is not None:
            card[f"probability/forget/{when}"] = round(figures.forget_likelihood, 4)
            card[f"probability/retain/{when}"] = round(figures.retain_likelihood, 4)
    if state.best is not None:
        card["retain_kl_nats"] = round(state.best.retain_kl, 4)
    return card


async def recall_card(
    served: ServedCheckpoint, rows_of: Mapping[str, Sequence[Scored]], progress: Stages
) -> dict[str, float]:
    """ROUGE-L recall of the reference answers, greedy, before and after."""
    card = {}
    for side, rows in rows_of.items():
        wanted = references_of(rows, served.version.tokenizer)
        asking = {"black_box": served.before, "corrected": served.after}
        for when, ask in asking.items():
            with progress.stage(f"{side}, {when.replace('_', ' ')}", len(rows)) as advance:
                answers = await ask(prompts_of(rows), advance)
            card[f"rouge_l_recall/{side}/{when}"] = round(rouge_l_recall(answers, wanted), 4)
    return card
