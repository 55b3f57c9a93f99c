"""Which of several equally good strengths leaves least of the forget set in whole greedy answers.

The choice in `calibration.py` looks along the reference answer: it sees where an answer first departs from it, not
what is said after that. An objective that only pushes away makes the corrected model babble, and in babble the
forgotten comes up again, the more the weaker the offset. So the best candidates are asked held-out questions before one
of them is packed: through the decoding that serves, in front of the black box.
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any, Final

from offset_models.training.answers import prompts_of, references_of, rouge_l_recall, serving
from offset_models.training.batches import TrainingData
from offset_models.training.calibration import Candidate, best, served_by
from offset_models.training.gather import Shown
from offset_models.training.held_out import Outcome, balance
from offset_models.training.packing import Packing, candidate
from offset_models.training.passes import Scored
from offset_models.training.run_folder import RunFolder
from offset_models.training.source import Source
from offset_models.training.stages import Trained, figures_of

NEAR: Final = 0.02  # of balance, that a finalist may lack
NOTHING: Final = 0.01  # share left, below which no other candidate can be better by a hundredth


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked, and of whom."""

    rows: Sequence[Scored]  # held-out rows that must go, with their reference answers
    source: Source
    max_tokens: int
    device: str = "cpu"


def by_answers(
    trained: Trained, packing: Packing, data: TrainingData, folder: RunFolder, asked: Asked, shown: Shown
) -> Trained:
    """As it is served by the finalist whose answers leave least; as before where there is nothing to choose.

    What a folder knows is not asked again. Blocking. Raises DeltaserveError.
    """
    candidates = finalists(trained.outcomes, trained.settings.keep)
    if len(candidates) < 2 or not asked.rows:
        return trained
    about = _about(trained, candidates, asked)
    left = folder.asked(about)
    if not left:
        left = asyncio.run(_shares_left(trained, packing, folder, candidates, asked, shown))
        folder.save_asked(about, left)
    chosen = least_left(trained.outcomes, left, trained.settings.keep)
    if chosen == candidates[0]:
        return trained
    settings = served_by(trained.settings, chosen)
    state = replace(trained.state, best=figures_of(trained, settings, data))
    return replace(trained, settings=settings, state=state)


def finalists(outcomes: Mapping[Candidate, Outcome], keep: float) -> list[Candidate]:
    """The best candidate, then the best one of every other strength that is as good but for `NEAR`."""
    if not outcomes:
        return []
    first, reached = best(outcomes, keep)
    of_each = [
        best({c: found for c, found in outcomes.items() if c.extrapolate == strength}, keep)
        for strength in dict.fromkeys(c.extrapolate for c in outcomes)
    ]
    least = balance(reached, keep) - NEAR
    return [first, *(other for other, found in of_each if other != first and balance(found, keep) >= least)]


def least_left(outcomes: Mapping[Candidate, Outcome], left: Mapping[Candidate, float], keep: float) -> Candidate:
    """The best balance of what answers leave and what is kept; of equals to two places the first one asked."""
    return max(left, key=lambda asked: round(balance(Outcome(1 - left[asked], outcomes[asked].kept), keep), 2))


def _about(trained: Trained, candidates: Sequence[Candidate], asked: Asked) -> dict[str, Any]:
    """Of which weights, by which candidates, to which questions; plain JSON types, no text."""
    digest = hashlib.sha256(b"".join(sample.digest for sample, _ in asked.rows)).hexdigest()
    weights = {"run": trained.state.run, "kept_step": trained.kept_step}
    return {**weights, "candidates": [list(astuple(c)) for c in candidates], "asked": [digest, asked.max_tokens]}


async def _shares_left(
    trained: Trained,
    packing: Packing,
    folder: RunFolder,
    candidates: Sequence[Candidate],
    asked: Asked,
    shown: Shown,
) -> dict[Candidate, float]:
    """Of the black box's own recall, by each candidate; of the first alone where it leaves nothing."""
    prompts, before, left = prompts_of(asked.rows), None, dict[Candidate, float]()
    for finalist in candidates:
        settings = served_by(trained.settings, finalist)
        served_as = replace(packing, strength=settings.served_strength, gate_nats=finalist.gate_nats)
        checkpoint = candidate(served_as, trained, folder)
        where = (checkpoint.parent, [checkpoint.name], packing.base, asked.source, asked.max_tokens, asked.device)
        async with serving(*where) as served:
            wanted = references_of(asked.rows, served.version.tokenizer)
            if before is None:
                with shown.stage("held out, black box", len(prompts)) as advance:
                    before = rouge_l_recall(await served.before(prompts, advance), wanted)
            name = f"held out, strength {settings.served_strength:g}, gate {finalist.gate_nats:g}"
            with shown.stage(name, len(prompts)) as advance:
                after = rouge_l_recall(await served.after(prompts, advance), wanted)
        left[finalist] = min(1.0, after / before) if before > 0 else 0.0
        if left[candidates[0]] <= NOTHING:
            break
    return left
