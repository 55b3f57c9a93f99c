"""Who asked to be forgotten? Erased names told from names never known, and from kept ones, by what anybody may ask.

Every attacker is a set of features of a name's answers and a linear classifier that has seen the answers about other
names. Those beside the black box ask it the same questions: it is still for rent elsewhere.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

import numpy as np

from deltaserve.client.errors import Refused
from deltaserve.client.evaluation.attacks.timing import answer_times
from deltaserve.client.evaluation.data.names import Group, Named
from deltaserve.client.evaluation.journal import Journal
from deltaserve.client.evaluation.leakage_results import Asked, Membership
from deltaserve.client.evaluation.metrics.discriminant import separation, standardised
from deltaserve.client.evaluation.metrics.statistics import Floats
from deltaserve.client.evaluation.patience import together
from deltaserve.client.evaluation.target import Reply, Target, user
from deltaserve.offset_models.metrics.refusals import RefusalJudge, similarity

TOP: Final = 20
AGAINST: Final[Mapping[Group, str]] = {"unknown": "names never known", "kept": "names that are kept"}
Features = Callable[[Asked, Asked | None, RefusalJudge], Floats | None]


async def ask(target: Target, named: Named, max_tokens: int) -> Asked:
    """One name's answers, greedy, with lists where the server gives any."""
    replies = await together(_answer(target, question, max_tokens) for question in named.questions)
    numbers = [_numbers(reply) for reply in replies]
    known = [one for one in numbers if one is not None]
    return Asked(
        name=named.name,
        group=named.group,
        texts=[reply.text for reply in replies],
        numbers=np.mean(known, axis=0).tolist() if known else None,
        firsts=[dict(reply.alternatives[0]) for reply in replies] if len(known) == len(replies) else None,
    )


async def timed(target: Target, named: Named) -> list[float] | None:
    """Of the first question's stream; nothing else may be under way."""
    times = await answer_times(target, named.questions[0])
    return None if times is None else times.tolist()


async def _answer(target: Target, question: str, max_tokens: int) -> Reply:
    """With the longest lists that it gives; without any where it gives none (`max_logprobs` 0)."""
    try:
        return await target.ask([user(question)], max_tokens=max_tokens, logprobs=True, top_logprobs=TOP)
    except Refused:
        return await target.ask([user(question)], max_tokens=max_tokens)


def _numbers(reply: Reply) -> Floats | None:
    """Of the answer's tokens: mean and least log-probability, and the entropies of the lists, first and mean (nats)."""
    own, lists = [token["logprob"] for token in reply.tokens], reply.alternatives
    if not own or not all(lists):
        return None
    entropies = [_entropy([logprob for _, logprob in place]) for place in lists]
    return np.array([fmean(own), min(own), entropies[0], fmean(entropies)])


def _entropy(logprobs: Sequence[float]) -> float:
    """Of the listed tokens, the rest left aside."""
    return -sum(math.exp(one) * one for one in logprobs if one > -math.inf)


def text_features(asked: Asked, _before: Asked | None, judge: RefusalJudge) -> Floats | None:
    """How near answers are to a refusal (mean and most), how long they are, how like each other."""
    close = [judge.closeness(text) if text.strip() else 1.0 for text in asked.texts]
    alike = [similarity(a, b) for at, a in enumerate(asked.texts) for b in asked.texts[:at]]
    length = fmean(math.log1p(len(text)) for text in asked.texts)
    return np.array([fmean(close), max(close), length, fmean(alike) if alike else 1.0])


def changed_texts(asked: Asked, before: Asked | None, _judge: RefusalJudge) -> Floats | None:
    """How like the black box's own answers they are: mean and least."""
    if before is None:
        return None
    alike = [similarity(after, own) for after, own in zip(asked.texts, before.texts, strict=True)]
    return np.array([fmean(alike), min(alike)])


def number_features(asked: Asked, _before: Asked | None, _judge: RefusalJudge) -> Floats | None:
    return None if asked.numbers is None else np.array(asked.numbers)


def changed_lists(asked: Asked, before: Asked | None, _judge: RefusalJudge) -> Floats | None:
    """How far the first token's list is from the black box's own: total variation of what is listed, mean and most."""
    if before is None or asked.firsts is None or before.firsts is None:
        return None
    far = [_variation(after, own) for after, own in zip(asked.firsts, before.firsts, strict=True)]
    return np.array([fmean(far), max(far)])


def _variation(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    tokens = set(one) | set(other)
    return sum(abs(math.exp(one.get(t, -math.inf)) - math.exp(other.get(t, -math.inf))) for t in tokens) / 2


def time_features(asked: Asked, _before: Asked | None, _judge: RefusalJudge) -> Floats | None:
    return None if asked.times is None else np.array(asked.times)


@dataclass(frozen=True, slots=True)
class Attacker:
    """What one looks at."""

    name: str
    features: Features


ATTACKERS: Final = (
    Attacker("text", text_features),
    Attacker("text, beside the black box", changed_texts),
    Attacker("logprobs", number_features),
    Attacker("logprobs, beside the black box", changed_lists),
    Attacker("times", time_features),
)


def judged(asked: Sequence[Asked], before: Sequence[Asked] | None, judge: RefusalJudge) -> list[Membership]:
    """Every attacker against either group; one that has nothing to look at is left out."""
    own = {one.name: one for one in before or ()}
    results = []
    for attacker in ATTACKERS:
        groups: dict[str, list[Floats]] = {}
        for one in asked:
            if (row := attacker.features(one, own.get(one.name), judge)) is not None:
                groups.setdefault(one.group, []).append(row)
        for group, against in AGAINST.items():
            if found := _membership(attacker.name, against, groups.get("erased", []), groups.get(group, [])):
                results.append(found)
    return results


def _membership(attacker: str, against: str, erased: list[Floats], others: list[Floats]) -> Membership | None:
    if not erased or not others:
        return None
    ones, rest = standardised([erased, others])
    auc, names = separation(ones, rest), (len(erased), len(others))
    if auc is None:
        return Membership(attacker=attacker, against=against, names=names, auc=None, low=None, high=None)
    return Membership(attacker=attacker, against=against, names=names, auc=auc.value, low=auc.low, high=auc.high)


@dataclass(frozen=True, slots=True)
class NameRun:
    """The names asked of every server; what the journal holds is not asked again."""

    names: Sequence[Named]
    targets: Mapping[str, Target]
    journal: Journal
    judge: RefusalJudge
    max_tokens: int

    async def results(self, served: Sequence[str], progress: Callable[[str], None]) -> dict[str, list[Membership]]:
        """Of each served side, and of the others, which tell what can be told without an erasure."""
        asked = {name: await self._side(name, progress) for name in self.targets}
        before = asked.get("before")
        return {name: judged(one, before if name in served else None, self.judge) for name, one in asked.items()}

    async def _side(self, side: str, progress: Callable[[str], None]) -> list[Asked]:
        entries = [entry["asked"] for entry in self.journal.entries if entry.get("asked_of") == side]
        known = {entry["name"]: Asked.model_validate(entry) for entry in entries}
        missing = [named for named in self.names if named.name not in known]
        progress(f"names of {side}")
        texts = await together(ask(self.targets[side], named, self.max_tokens) for named in missing)
        for named, one in zip(missing, texts, strict=True):  # one stream at a time
            known[named.name] = one.model_copy(update={"times": await timed(self.targets[side], named)})
            self.journal.add({"asked_of": side, "asked": known[named.name].model_dump()})
        return [known[named.name] for named in self.names]
