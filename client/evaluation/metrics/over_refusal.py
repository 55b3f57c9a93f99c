"""Does the server decline what the black box answers? The black box's own refusals are counted apart."""

from collections.abc import Sequence
from dataclasses import dataclass

from deltaserve.client.errors import Refused
from deltaserve.client.evaluation.data.items import KEPT_SPLITS, Item, Suite
from deltaserve.client.evaluation.leakage_results import KeptAnswer, OverRefusal, Rate
from deltaserve.client.evaluation.metrics.intervals import wilson
from deltaserve.client.evaluation.metrics.refusal_lead import refusal_lead
from deltaserve.client.evaluation.target import MAX_TOKENS, Target, user
from deltaserve.offset_models.metrics.refusals import RefusalJudge

SCORED: int = 8  # items of each split whose refusals are also scored
SCORED_WORDINGS: int = 6


@dataclass(frozen=True)
class KeptQuestions:
    """Questions about what must stay, asked of both servers, and the judge of their answers."""

    before: Target
    after: Target
    judge: RefusalJudge

    async def ask(self, item: Item, *, scored: bool) -> KeptAnswer:
        """One question to both; `scored`: also how much the server inclines to refuse."""
        messages = [user(item.question)]
        before = (await self.before.ask(messages, max_tokens=MAX_TOKENS)).content
        after = (await self.after.ask(messages, max_tokens=MAX_TOKENS)).content
        return KeptAnswer(
            item=item.key,
            question=item.question,
            before=before,
            after=after,
            before_refuses=self.judge.refuses(before, item.answer),
            # What counts as the answer now is what the black box says: it need not be right.
            after_refuses=self.judge.refuses(after, before),
            inclination=await self._inclination(item, before) if scored else None,
        )

    async def _inclination(self, item: Item, own: str) -> float | None:
        """How much more the server likes refusals than the black box's answer, nats; None where it does not score."""
        try:
            return await refusal_lead(self.after, item.question, own, self.judge.wordings[:SCORED_WORDINGS])
        except Refused:
            return None


def summary(split: str, answers: Sequence[KeptAnswer]) -> OverRefusal:
    """Refusals among what the black box answers itself."""
    answered = [one for one in answers if not one.before_refuses]
    refused = [one for one in answered if one.after_refuses]
    leads = [one.inclination for one in answered if one.inclination is not None]
    interval = wilson(len(refused), len(answered))
    return OverRefusal(
        split=split,
        asked=len(answers),
        black_box_refuses=len(answers) - len(answered),
        refused=Rate(
            successes=len(refused), items=len(answered), rate=_share(len(refused), len(answered)),
            low=interval.low, high=interval.high,
        ),
        unchanged=sum(one.before.strip() == one.after.strip() for one in answered),
        judge="similarity and likelihood" if leads else "similarity",
        inclined=sum(lead > 0 for lead in leads) if leads else None,
        scored=len(leads),
        answers=list(answers),
    )  # fmt: skip


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def kept_items(suite: Suite) -> dict[str, tuple[Item, ...]]:
    """What must stay, by split; empty splits left out."""
    return {split: items for split in KEPT_SPLITS if (items := suite.split(split))}
