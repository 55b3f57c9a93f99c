"""Does the server decline what the black box answers? The black box's own refusals are counted apart."""

from collections.abc import Sequence
from dataclasses import dataclass

from deltaserve.client.evaluation.attacks.base import MAX_TOKENS, user
from deltaserve.client.evaluation.attacks.items import KEPT_SPLITS, Item, Split, Suite
from deltaserve.client.evaluation.attacks.leakage_schema import KeptAnswer, OverRefusal, Rate
from deltaserve.client.evaluation.metrics.intervals import wilson
from deltaserve.client.evaluation.metrics.refusals import RefusalJudge, refusal_lead
from deltaserve.client.evaluation.side import Blocked, Side

SCORED: int = 8  # items of each split whose refusals are also scored
SCORED_WORDINGS: int = 6


@dataclass(frozen=True)
class Asking:
    """Both sides and the judge."""

    before: Side
    after: Side
    suite: Suite
    judge: RefusalJudge

    async def kept(self, item: Item, *, scored: bool) -> KeptAnswer:
        """One question to both."""
        asked = [user(item.question)]
        before = (await self.before.chat(asked, max_tokens=MAX_TOKENS)).text
        after = (await self.after.chat(asked, max_tokens=MAX_TOKENS)).text
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
        except Blocked:
            return None


def summary(split: Split, answers: Sequence[KeptAnswer]) -> OverRefusal:
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


def kept_items(suite: Suite) -> dict[Split, tuple[Item, ...]]:
    """What must stay, by split; empty splits left out."""
    return {split: items for split in KEPT_SPLITS if (items := suite.split(split))}
