"""What a row of the table of objectives says to questions that it was neither trained on nor chosen by."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.support.demo_training import Request
from benchmarks.support.processes import WEIGHTS, black_box
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training.answers import own_answers, rouge_l_recall, serving
from deltaserve.offset_models.training.collecting.source import Source
from deltaserve.offset_models.training.learning.held_out import harmonic_mean
from deltaserve.offset_models.training.rows.row import Row
from deltaserve.offset_models.training.rows.samples import prompt_ids
from deltaserve.server.upstream.probing.connect import connect

BASE = WEIGHTS / "base"
ANSWER_TOKENS = 48
Ask = Callable[[Sequence[Sequence[int]], Callable[[], object]], Awaitable[list[str]]]
TUNED = Path("weights", "blackbox")  # a directly tuned black box in its row's folder
READINGS = {  # of forgetting and retention: cells before and after
    "ROUGE-L recall": ("recall/forget", "recall/retain"),
    "facts told": ("facts/forget", "recall/retain"),
    "probability": ("probability/forget", "probability/retain"),
}
Figures = dict[
    str, dict[str, float]
]  # of "black_box" and "corrected": recall of each side, facts told of the forget side


def judged(folder: Path, source: Source, request: Request) -> Figures:
    """What the row at `folder` made: an offset of the folder's name, a tuned black box, or nothing worth keeping."""
    if (folder / folder.name).is_dir():
        return judged_sum(folder, [folder.name], source, request)
    before = asyncio.run(_own(source.url, request))
    if not (folder / TUNED).is_dir():
        return {"black_box": before, "corrected": before}
    with black_box(weights=folder / "weights") as tuned:
        return {"black_box": before, "corrected": asyncio.run(_own(tuned.url + "/v1", request))}


def judged_sum(root: Path, names: Sequence[str], source: Source, request: Request) -> Figures:
    """Checkpoints under `root` served as one sum."""
    return asyncio.run(_served(root, names, source, request))


def figures(by_server: Figures) -> dict[str, Any]:
    """Cells of a row: what was said, what is left of the black box's on each side, and the harmonic mean of both."""
    cells = {f"{figure}/{when}": value for when, values in by_server.items() for figure, value in values.items()}
    forget, retain = left(cells, "ROUGE-L recall")
    return {**cells, "forget_share": forget, "retain_share": retain, "harmonic": harmonic(cells)}


def left(cells: Mapping[str, Any], reading: str) -> tuple[float, float]:
    """Shares of the black box's figures, at most 1: of the forget side and of the retain side."""
    forget, retain = (min(1.0, cells[f"{name}/corrected"] / cells[f"{name}/black_box"]) for name in READINGS[reading])
    return forget, retain


def harmonic(cells: Mapping[str, Any], reading: str = "ROUGE-L recall") -> float:
    """Of forgetting and retention."""
    forget, retain = left(cells, reading)
    return harmonic_mean(1 - forget, retain)


async def _served(root: Path, names: Sequence[str], source: Source, request: Request) -> Figures:
    async with serving(root, names, BASE, source, ANSWER_TOKENS) as served:
        asking = {"black_box": served.before, "corrected": served.after}
        return {when: await _measured(ask, request, served.version.tokenizer) for when, ask in asking.items()}


async def _own(url: str, request: Request) -> dict[str, float]:
    tokenizer = Tokenizer.load(BASE)
    box = await connect(url, tokenizer=tokenizer, k=20)

    async def ask(prompts: Sequence[Sequence[int]], advance: Callable[[], object]) -> list[str]:
        return await own_answers(box, tokenizer, prompts, ANSWER_TOKENS, advance)

    try:
        return await _measured(ask, request, tokenizer)
    finally:
        await box.aclose()


async def _measured(ask: Ask, request: Request, tokenizer: Tokenizer) -> dict[str, float]:
    """ROUGE-L recall of each side; of forgotten questions also the share whose answer tells the fact."""
    values: dict[str, float] = {}
    for side, rows in request.held.items():
        answers = await ask([prompt_ids(row, tokenizer) for row in rows], lambda: None)
        values[f"recall/{side}"] = rouge_l_recall(answers, [row.completion or "" for row in rows])
        if side == "forget":
            values["facts/forget"] = fmean(map(tells_fact(request), rows, answers))
    return values


def tells_fact(request: Request) -> Callable[[Row, str], bool]:
    """Whether an answer to a row gives away what was to be forgotten."""
    return lambda row, answer: request.facts[row.messages[-1][1]].given_away(answer)
