"""Chooses, of strengths that are equally good along the references, the one whose whole answers leak least.

The choice in `calibration.py` looks along the reference answer: it sees where an answer first departs from it, not
what is said after that. An objective that only pushes away makes the corrected model babble, and in babble the
forgotten comes up again, the more the weaker the offset. So the best candidates are asked held-out questions before one
of them is packed: through the decoding that serves, in front of the black box.
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any, Final

from deltaserve.offset_models.progress.progress import Stages
from deltaserve.offset_models.training.answers import (
    ServedCheckpoint,
    prompts_of,
    references_of,
    rouge_l_recall,
    serving,
)
from deltaserve.offset_models.training.bridging.prompts import OtherTokenizer
from deltaserve.offset_models.training.collecting.source import Source
from deltaserve.offset_models.training.learning.batches import TrainingData
from deltaserve.offset_models.training.learning.calibration import Candidate, best, served_by
from deltaserve.offset_models.training.learning.held_out import SAID_ENOUGH, Outcome, balance
from deltaserve.offset_models.training.learning.run_folder import AnswerRecalls, RunFolder
from deltaserve.offset_models.training.packing import Packing, exported, write_candidate
from deltaserve.offset_models.training.rows.scored import Scored
from deltaserve.offset_models.training.stages import Trained, figures_of

NEAR: Final = 0.02  # of balance along the references, that a finalist may lack
BETTER: Final = 0.01  # of balance by whole answers, that another must have more than the first


@dataclass(frozen=True, slots=True)
class HeldOutQuestions:
    """Held-out questions, and the black box that answers them."""

    rows: Sequence[Scored]  # held-out rows that must go, with their reference answers
    source: Source
    max_tokens: int
    device: str
    progress: Stages
    box: OtherTokenizer | None = None

    @property
    def identity(self) -> list[Any]:
        """Which questions, as plain JSON types; no text."""
        return [hashlib.sha256(b"".join(sample.digest for sample, _ in self.rows)).hexdigest(), self.max_tokens]

    async def black_box(self, served: ServedCheckpoint) -> float:
        """ROUGE-L recall of its own answers."""
        with self.progress.stage("held out, black box", len(self.rows)) as advance:
            return rouge_l_recall(await served.before(prompts_of(self.rows), advance), self._wanted(served))

    async def corrected(self, served: ServedCheckpoint, packing: Packing) -> float:
        """ROUGE-L recall of the corrected ones."""
        name = f"held out, strength {packing.strength:g}, gate {packing.gate_nats:g}"
        with self.progress.stage(name, len(self.rows)) as advance:
            return rouge_l_recall(await served.after(prompts_of(self.rows), advance), self._wanted(served))

    def _wanted(self, served: ServedCheckpoint) -> list[str]:
        return references_of(self.rows, served.version.tokenizer)


def by_answers(
    trained: Trained, packing: Packing, data: TrainingData, folder: RunFolder, asking: HeldOutQuestions
) -> Trained:
    """The pair with strength and gate of the finalist whose answers leak least; as before without a choice.

    Recalls that the folder holds are not measured again, also after a failure. Blocking. Raises DeltaserveError.
    """
    candidates = finalists(trained.outcomes, trained.settings.keep)
    if len(candidates) < 2 or not asking.rows:
        return trained
    about = _about(trained, candidates, asking)
    answered = asyncio.run(_AnswerRounds(trained, packing, folder, asking, about).ask(candidates))
    chosen = least_left(trained.outcomes, answered.left, trained.settings.keep) if answered.left else candidates[0]
    if chosen == candidates[0]:
        return trained
    settings = served_by(trained.settings, chosen)
    if answered.figures is None:
        answered = replace(answered, figures=figures_of(trained, settings, data))
        folder.save_record(about, answered)
    return replace(trained, settings=settings, state=replace(trained.state, best=answered.figures))


def finalists(outcomes: Mapping[Candidate, Outcome], keep: float) -> list[Candidate]:
    """The best candidate, then the best one of every other strength that is as good but for `NEAR`."""
    if not outcomes:
        return []
    first, reached = best(outcomes, keep)
    of_each = [
        best({c: outcome for c, outcome in outcomes.items() if c.extrapolate == strength}, keep)
        for strength in dict.fromkeys(c.extrapolate for c in outcomes)
    ]
    least = balance(reached, keep) - NEAR
    return [first, *(other for other, outcome in of_each if other != first and balance(outcome, keep) >= least)]


def least_left(outcomes: Mapping[Candidate, Outcome], left: Mapping[Candidate, float], keep: float) -> Candidate:
    """The best balance of what answers leave and what is kept; the first one asked unless another is `BETTER`."""
    reached = {candidate: _balance(outcomes[candidate], share, keep) for candidate, share in left.items()}
    first, chosen = next(iter(reached)), max(reached, key=lambda candidate: reached[candidate])
    return chosen if reached[chosen] - reached[first] >= BETTER else first


def _balance(outcome: Outcome, left: float, keep: float) -> float:
    return balance(Outcome(1 - left, outcome.kept), keep)


def _about(trained: Trained, candidates: Sequence[Candidate], asking: HeldOutQuestions) -> dict[str, Any]:
    """Of which weights, by which candidates, to which questions; plain JSON types."""
    weights = {"run": trained.state.run, "kept_step": trained.kept_step}
    return {**weights, "candidates": [list(astuple(c)) for c in candidates], "asked": asking.identity}


@dataclass(frozen=True, slots=True)
class _AnswerRounds:
    """Measures candidates one after another."""

    trained: Trained
    packing: Packing
    folder: RunFolder
    asking: HeldOutQuestions
    about: Mapping[str, Any]

    async def ask(self, candidates: Sequence[Candidate]) -> AnswerRecalls:
        """Of all of them; of the first alone where no other can be better, of none where there is nothing to leave."""
        answered, weights = self.folder.record(AnswerRecalls, self.about), None
        for candidate in candidates:
            if answered is not None and (candidate in answered.recalls or self._settled(answered, candidates[0])):
                continue
            weights = weights or exported(self.trained, self.folder, self.packing.base.name)
            answered = await self._asked(candidate, weights, answered)
        return answered or AnswerRecalls(0.0, {})

    async def _asked(self, candidate: Candidate, weights: Path, answered: AnswerRecalls | None) -> AnswerRecalls:
        """What was answered before, and by this one."""
        settings, asking = served_by(self.trained.settings, candidate), self.asking
        packing = replace(self.packing, strength=settings.served_strength, gate_nats=candidate.gate_nats)
        packed = write_candidate(packing, weights, self.folder, full=settings.full)
        where = (packed.parent, [packed.name], packing.base, asking.source, asking.max_tokens, asking.device)
        async with serving(*where, asking.box) as served:
            if answered is None:
                answered = self._kept(AnswerRecalls(await asking.black_box(served), {}))
                if self._settled(answered, candidate):
                    return answered
            recall = await asking.corrected(served, packing)
            return self._kept(replace(answered, recalls={**answered.recalls, candidate: recall}))

    def _kept(self, answered: AnswerRecalls) -> AnswerRecalls:
        self.folder.save_record(self.about, answered)
        return answered

    def _settled(self, answered: AnswerRecalls, first: Candidate) -> bool:
        """Whether more answers would change nothing."""
        if answered.black_box < SAID_ENOUGH:
            return True  # shares of next to nothing say nothing
        if first not in answered.recalls:
            return False
        keep = self.trained.settings.keep
        return 1 - _balance(self.trained.outcomes[first], answered.left[first], keep) < BETTER
