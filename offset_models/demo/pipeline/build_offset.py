"""Makes the demo's offset by the stages of `deltaserve forget`.

The black box runs as a process of its own, and all that training learns of it comes through its HTTP API.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import Final

from deltaserve.offset_models.demo.pipeline.plan import BASE, BLACK_BOX, BRIDGED, BRIDGED_BASE, LICENCE, OFFSET, Plan
from deltaserve.offset_models.demo.process import serving
from deltaserve.offset_models.demo.register.erasure import RowMaker
from deltaserve.offset_models.demo.register.questions import (
    SPLITS,
    Pool,
    Question,
    Split,
    choosing_questions,
    judging_questions,
    row_of,
)
from deltaserve.offset_models.demo.register.templates import REFUSALS
from deltaserve.offset_models.progress.progress import Advance, Progress
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training import forget
from deltaserve.offset_models.training.answers import ServedCheckpoint, rouge_l_recall
from deltaserve.offset_models.training.answers import serving as serving_offset
from deltaserve.offset_models.training.collecting.source import Source
from deltaserve.offset_models.training.rows.dataset import Data
from deltaserve.offset_models.training.rows.row import Row
from deltaserve.offset_models.training.rows.samples import prompt_ids

CHECKED_K: Final = (20, 5)
Asked = Mapping[Split, Sequence[Question]]
Answers = Callable[[Sequence[Sequence[int]], Callable[[], object]], Awaitable[list[str]]]


async def make_offsets(work: Plan, progress: Progress) -> dict[str, float]:
    """Collect, train, choose how each is served, pack, check; gives the figures of the check.

    Raises DeltaserveError.
    """
    async with serving(work.out / BLACK_BOX) as url:
        source = Source(url, BLACK_BOX, work.scale.top_k)
        with tempfile.TemporaryDirectory() as folder:  # nothing that was collected stays
            request = erasure_request(work, source, Path(folder))
            for each in (request, *bridged(request, work)):  # what is collected serves both
                rmtree(each.out, ignore_errors=True)  # an earlier build's
                # In a thread: the loop goes on serving the black box's pipes.
                await asyncio.to_thread(forget.forget, each, progress, lambda _forecast: None)
        return await check(work, source, progress)


def bridged(request: forget.Plan, work: Plan) -> Iterator[forget.Plan]:
    """The same request, for the base of another tokenizer; nothing where the scale has none."""
    if work.scale.bridged is not None:
        yield replace(
            request,
            name=BRIDGED,
            out=work.out / BRIDGED,
            base=work.out / BRIDGED_BASE,
            upstream_tokenizer=work.out / BLACK_BOX,
            settings=replace(request.settings, steps=work.scale.bridged.steps),
        )


def erasure_request(work: Plan, source: Source, folder: Path) -> forget.Plan:
    """The register's forget group against everything else; held-out questions choose step, strength and gate."""
    maker = RowMaker(work.registry, work.random("erasure"))
    data = Data(maker.forget(work.scale.amounts), maker.retain(work.scale.amounts), REFUSALS)
    return forget.Plan(
        name=OFFSET,
        data=data,
        held=Data(_choosing(work, "forget"), _choosing(work, "retain", "general"), REFUSALS, "reference"),
        base=work.out / BASE,
        source=source,
        settings=replace(work.scale.offset, seed=work.seed),
        work=folder,
        out=work.out / OFFSET,
        licence=LICENCE,
        answer_tokens=work.scale.answer_tokens,
        device="cpu",
    )


async def check(work: Plan, source: Source, progress: Progress) -> dict[str, float]:
    """ROUGE-L recall on held-out wordings that chose nothing, before (`black_box`) and after, for each split and k."""
    questions: Asked = {split: judging_questions(split, work.scale.checked, registry=work.registry) for split in SPLITS}
    figures: dict[str, float] = {}
    with progress.stage("check", sum(map(len, questions.values())) * (1 + len(CHECKED_K))) as advance:
        for k in CHECKED_K:
            of_k = replace(source, k=k)
            async with serving_offset(work.out, [OFFSET], work.out / BASE, of_k, work.scale.answer_tokens) as served:
                if k == source.k:
                    figures |= await _recalls("black_box", served.before, questions, served, advance)
                figures |= await _recalls(f"corrected_k{k}", served.after, questions, served, advance)
    return figures


async def _recalls(
    side: str, answers: Answers, questions_of: Asked, served: ServedCheckpoint, advance: Advance
) -> dict[str, float]:
    figures = {}
    for split, questions in questions_of.items():
        texts = await answers(_prompts(questions, served.version.tokenizer), advance)
        recall = rouge_l_recall(texts, [question.answer for question in questions])
        figures[f"rouge_l_recall/{split}/{side}"] = round(recall, 4)
    return figures


def _choosing(work: Plan, *pools: Pool) -> list[Row]:
    return [row_of(question) for pool in pools for question in choosing_questions(pool, work.registry)]


def _prompts(questions: Sequence[Question], tokenizer: Tokenizer) -> list[list[int]]:
    return [prompt_ids(row_of(question), tokenizer) for question in questions]
