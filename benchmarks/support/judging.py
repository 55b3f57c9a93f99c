"""What a row of the table of objectives says to questions that it was neither trained on nor chosen by."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.support.processes import WEIGHTS, black_box
from offset_models.demo.questions import Split
from offset_models.tokenizer import Tokenizer
from offset_models.training.answers import own_answers, rouge_l_recall, serving
from offset_models.training.held_out import harmonic_mean
from offset_models.training.rows import Row
from offset_models.training.samples import prompt_ids
from offset_models.training.source import Source
from server.upstream.probe import connect

BASE = WEIGHTS / "base"
ANSWER_TOKENS = 48
TUNED = Path("weights", "blackbox")  # a directly tuned black box in its row's folder
Questions = Mapping[Split, Sequence[Row]]
Recalls = dict[str, dict[str, float]]  # of "black_box" and "corrected", by side: mean ROUGE-L recall


def judged(folder: Path, source: Source, questions: Questions) -> Recalls:
    """What the row at `folder` made: an offset of the folder's name, a tuned black box, or nothing worth keeping."""
    if (folder / folder.name).is_dir():
        return judged_sum(folder, [folder.name], source, questions)
    before = asyncio.run(_own(source.url, questions))
    if not (folder / TUNED).is_dir():
        return {"black_box": before, "corrected": before}
    with black_box(weights=folder / "weights") as tuned:
        return {"black_box": before, "corrected": asyncio.run(_own(tuned.url + "/v1", questions))}


def judged_sum(root: Path, names: Sequence[str], source: Source, questions: Questions) -> Recalls:
    """Checkpoints under `root` served as one sum."""
    return asyncio.run(_served(root, names, source, questions))


def figures(recalls: Recalls) -> dict[str, Any]:
    """Cells of a row: recalls, what is left of the black box's on each side, and the harmonic mean of both."""
    before, after = recalls["black_box"], recalls["corrected"]
    forget, retain = (min(1.0, after[side] / before[side]) for side in ("forget", "retain"))
    return {
        **{f"recall/{side}/{when}": value for when, sides in recalls.items() for side, value in sides.items()},
        "forget_share": forget,
        "retain_share": retain,
        "harmonic": harmonic_mean(1 - forget, retain),
    }


async def _served(root: Path, names: Sequence[str], source: Source, questions: Questions) -> Recalls:
    recalls: Recalls = {"black_box": {}, "corrected": {}}
    async with serving(root, names, BASE, source, ANSWER_TOKENS) as served:
        for side, rows in questions.items():
            prompts, wanted = _asked(rows, served.version.tokenizer)
            for when, ask in (("black_box", served.before), ("corrected", served.after)):
                recalls[when][side] = rouge_l_recall(await ask(prompts, lambda: None), wanted)
    return recalls


async def _own(url: str, questions: Questions) -> dict[str, float]:
    tokenizer = Tokenizer.load(BASE)
    box = await connect(url, tokenizer=tokenizer, k=20)
    try:
        found: dict[str, float] = {}
        for side, rows in questions.items():
            prompts, wanted = _asked(rows, tokenizer)
            answers = await own_answers(box, tokenizer, prompts, ANSWER_TOKENS)
            found[side] = rouge_l_recall(answers, wanted)
        return found
    finally:
        await box.aclose()


def _asked(rows: Sequence[Row], tokenizer: Tokenizer) -> tuple[list[list[int]], list[str]]:
    return [list(prompt_ids(row, tokenizer)) for row in rows], [row.completion or "" for row in rows]
