"""The demo's offset, trained as anybody else's would be: the black box runs as a process of its own, and all that
training learns of it comes through its HTTP API.
"""

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from transformers import LlamaForCausalLM, PreTrainedModel

from offset_models.demo.erasure import RowMaker
from offset_models.demo.plan import BASE, BLACK_BOX, LICENCE, OFFSET, Plan
from offset_models.demo.process import serving
from offset_models.demo.progress import Progress
from offset_models.demo.questions import Split, evaluation_questions
from offset_models.demo.rollout import Rollout, rouge_l_recall
from offset_models.demo.templates import REFUSALS
from offset_models.manifest import TrainingSummary
from offset_models.pack import write_lora_checkpoint
from offset_models.tokenizer import Tokenizer
from offset_models.training.batches import TrainingData
from offset_models.training.collect import Source, TopKCache, collect
from offset_models.training.data import Row, digest_of_rows, encode, refused
from offset_models.training.fabric import Fabric
from offset_models.training.pair import TrainedPair
from offset_models.training.passes import Scored
from offset_models.training.run_folder import RunFolder
from offset_models.training.settings import TrainingSettings
from offset_models.training.student import Student, new_student
from offset_models.training.trainer import Trainer

T = TypeVar("T")

CHECKED_SPLITS: Final[tuple[Split, ...]] = ("forget", "retain", "neighbours", "general")
CHECKED_K: Final = (20, 5)
SCORED_ANSWERS: Final = 64  # true answers of each side whose likelihood is measured
KEPT_SETTINGS: Final = (
    "forget_batch",
    "retain_batch",
    "learning_rate",
    "weight_decay",
    "rank",
    "alpha",
)


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be forgotten and what is to stay, as rows; and who is asked about them."""

    forget: list[Row]
    retain: list[Row]
    source: Source
    tokenizer: Tokenizer


async def make_offset(work: Plan, shown: Progress) -> dict[str, float]:
    """Collect, train, check, pack; gives the figures of the check."""
    tokenizer = Tokenizer.load(work.out / BASE)
    maker = RowMaker(work.registry, work.random("erasure"))
    forget, retain = maker.forget(work.scale.amounts), maker.retain(work.scale.amounts)
    async with serving(work.out / BLACK_BOX) as url:
        request = Request(forget, retain, Source(url, BLACK_BOX, work.scale.top_k), tokenizer)
        pair, likelihoods = await train_pair(work, request, shown)
        recalls = await check(work, Rollout(request.source, tokenizer, pair, work.scale.answer_tokens), shown)
    figures = likelihoods | recalls
    pack(work, pair.student, summary(request, pair.settings, shown.seconds["offset"]), figures)
    return figures


async def train_pair(work: Plan, request: Request, shown: Progress) -> tuple[TrainedPair, dict[str, float]]:
    """The trained pair, and the likelihood of true answers before and after."""
    settings = _settings(work, request.tokenizer)
    base = load_base(work.out / BASE)
    forget = await scored(list(refused(request.forget, REFUSALS)), request, shown, "collect forget")
    retain = await scored(request.retain, request, shown, "collect retain")
    erased = await scored(_spread(request.forget), request, shown, "collect answers")
    with shown.stage("offset", settings.steps) as advance:

        def report(_step: int, figures: Mapping[str, float]) -> None:
            advance(f"forget {figures['forget']:.3f}, retain {figures['retain']:.3f}")

        with tempfile.TemporaryDirectory() as folder:
            data = TrainingData({"refusal": forget}, retain)
            student = new_student(base, settings)
            run = Trainer(student, data, settings, RunFolder(Path(folder)), Fabric.find("cpu"), report)
            # In a thread: the loop goes on serving the black box's pipes.
            await asyncio.to_thread(run.run)
    pair = TrainedPair(student, settings)
    return pair, _likelihoods(pair, forget=erased, retain=_spread(retain))


def load_base(folder: Path) -> PreTrainedModel:
    """The pair's base in float32, as training and serving on CPUs run it."""
    return LlamaForCausalLM.from_pretrained(folder, dtype="float32", attn_implementation="sdpa")


async def scored(rows: Sequence[Row], request: Request, shown: Progress, stage: str) -> list[Scored]:
    """Rows as samples with the black box's top-k. Nothing is kept on disk afterwards."""
    samples = [encode(row, request.tokenizer) for row in rows]
    source = request.source
    with shown.stage(stage, len(samples)) as advance, tempfile.TemporaryDirectory() as folder:
        tops = await collect(samples, source, TopKCache(Path(folder), source.model, source.k), advance)
    return list(zip(samples, tops, strict=True))


async def check(work: Plan, corrected: Rollout, shown: Progress) -> dict[str, float]:
    """ROUGE-L recall on held-out wordings, before (`black_box`) and after, for each split and k."""
    runs = {"black_box": replace(corrected, pair=None)} | {
        f"corrected_k{k}": replace(corrected, source=replace(corrected.source, k=k)) for k in CHECKED_K
    }
    figures: dict[str, float] = {}
    with shown.stage("check", len(CHECKED_SPLITS) * len(runs)) as advance:
        for split in CHECKED_SPLITS:
            questions = evaluation_questions(split, work.scale.checked, registry=work.registry)
            for name, rollout in runs.items():
                recall = rouge_l_recall(await rollout.answers(questions), questions)
                figures[f"rouge_l_recall/{split}/{name}"] = round(recall, 4)
                advance()
    return figures


def pack(work: Plan, student: Student, training: TrainingSummary, figures: dict[str, float]) -> None:
    """The offset checkpoint, in place of an earlier one."""
    with tempfile.TemporaryDirectory(dir=work.out) as folder:
        adapter, made = Path(folder) / "adapter", Path(folder) / OFFSET
        student.save(adapter, BASE)
        write_lora_checkpoint(
            made,
            name=OFFSET,
            adapter_folder=adapter,
            base_folder=work.out / BASE,
            base_name=BASE,
            base_path=f"../{BASE}",
            method="delta-unlearning",
            training=training,
            card=dict(figures),
            licence=LICENCE,
            seed=work.seed,
        )
        if (work.out / OFFSET).exists():
            (work.out / OFFSET).rename(Path(folder) / "replaced")
        made.rename(work.out / OFFSET)


def summary(request: Request, settings: TrainingSettings, seconds: float) -> TrainingSummary:
    """How the offset was made; digests of the rows, never the rows."""
    return TrainingSummary(
        objective=settings.objective,
        steps=settings.steps,
        forget_digest=digest_of_rows(request.forget),
        retain_digest=digest_of_rows(request.retain),
        forget_sequences=len(request.forget),
        retain_sequences=len(request.retain),
        upstream_model=request.source.model,
        top_k=request.source.k,
        seed=settings.seed,
        duration_s=seconds,
        settings={
            "retain_loss": settings.retain,
            "retain_weight": settings.weight,
            **{name: value for name, value in asdict(settings).items() if name in KEPT_SETTINGS},
        },
    )


def _settings(work: Plan, tokenizer: Tokenizer) -> TrainingSettings:
    size, masked = tokenizer.vocab_size, tokenizer.masked_ids
    return replace(work.scale.offset, seed=work.seed, vocab_size=size, masked_ids=masked)


def _likelihoods(pair: TrainedPair, **sides: Sequence[Scored]) -> dict[str, float]:
    figures = {}
    for side, rows in sides.items():
        before, after = pair.answer_logprob(rows)
        figures[f"answer_logprob/{side}/black_box"] = round(before, 4)
        figures[f"answer_logprob/{side}/corrected"] = round(after, 4)
    return figures


def _spread(rows: Sequence[T]) -> Sequence[T]:
    return rows[:: max(1, len(rows) // SCORED_ANSWERS)]
