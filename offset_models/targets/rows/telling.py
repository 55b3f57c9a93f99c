"""Which forms the black box tells anything in: one that it never tells in needs few rows."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from deltaserve.offset_models.targets.asking import Asks
from deltaserve.offset_models.targets.probe import Probe

SILENT: Final = 0.5  # of its share for a form in which nothing was told: three probes do not say that none would be
# The first that anybody tries, those that no refusal fits, and what is told in other letters than the fact's.
ALWAYS: Final = frozenset(
    {"direct", "indirect", "reversed", "running text", "begun answer", "begun sentence", "continuation", "language"}
)
TOKENS: Final = 24
AT_A_TIME: Final = 8  # probes that are asked before it is seen which wordings tell
ENOUGH: Final = 2  # probes of a wording that told nothing


@dataclass(frozen=True, slots=True)
class Told:
    """Of one form: how many probes were asked, and how many answers held a secret."""

    asked: int
    told: int


def tells(probe: Probe, answer: str) -> bool:
    """Whether one of its secrets stands in the answer, as whole words, in any case."""
    return any(_holds(answer, secret) for secret in probe.secrets)


async def telling(asks: Asks, probes: Sequence[Probe], *, max_tokens: int = TOKENS) -> dict[str, Told]:
    """Of every form among the probes, one greedy call each while some are left. Raises UpstreamError."""
    probes = probes[: asks.calls_left]
    answers = await asks.ask([probe.row for probe in probes], max_tokens=max_tokens)
    found = dict[str, Told]()
    for probe, (answer,) in zip(probes, answers, strict=True):
        before = found.get(probe.form, Told(0, 0))
        found[probe.form] = Told(before.asked + 1, before.told + tells(probe, answer))
    return found


async def told(asks: Asks, probes: Sequence[Probe], count: int, *, max_tokens: int = TOKENS) -> list[Probe]:
    """`count` of those that the black box answers with a secret, with its answers; fewer where calls or probes end.

    Only these say anything where strength and gate are chosen, and where it is judged what is left. One greedy call
    each, a few at a time: what is asked in a wording that told nothing twice is passed over. Raises UpstreamError.
    """
    found, left = list[Probe](), list(probes)
    heard = dict[tuple[str, str], Told]()
    while left and len(found) < count and asks.calls_left:
        now = left[: min(AT_A_TIME, asks.calls_left)]
        answers = await asks.ask([probe.row for probe in now], max_tokens=max_tokens)
        for probe, (text,) in zip(now, answers, strict=True):
            before, told_it = heard.get(_wording(probe), Told(0, 0)), tells(probe, text)
            heard[_wording(probe)] = Told(before.asked + 1, before.told + told_it)
            found += [_answered(probe, text)] if told_it else []
        silent = {wording for wording, known in heard.items() if known.asked >= ENOUGH and not known.told}
        left = [probe for probe in left[len(now) :] if _wording(probe) not in silent]
    return found[:count]


def _wording(probe: Probe) -> tuple[str, str]:
    return probe.form, probe.wording


def weighed(shares: Mapping[str, float], forms: Mapping[str, Told]) -> dict[str, float]:
    """The shares of forms, smaller for those in which nothing was told."""
    silent = {form for form, found in forms.items() if found.asked and not found.told} - ALWAYS
    return {form: share * (SILENT if form in silent else 1.0) for form, share in shares.items()}


def held_out_weights(shares: Mapping[str, float], forms: Mapping[str, Told]) -> dict[str, float]:
    """The shares of forms where only what was told counts: by how many of the probes were told, half a one added."""
    found = {form: forms.get(form, Told(0, 0)) for form in shares}
    return {form: share * (found[form].told + 0.5) / (found[form].asked + 1) for form, share in shares.items()}


def few_of_each(probes: Iterable[Probe], count: int) -> list[Probe]:
    """The first `count` of every form."""
    seen = dict[str, int]()
    taken = []
    for probe in probes:
        seen[probe.form] = seen.get(probe.form, 0) + 1
        if seen[probe.form] <= count:
            taken.append(probe)
    return taken


def _answered(probe: Probe, text: str) -> Probe:
    """With a space before what goes on in a line that has begun."""
    return probe.answered(f" {text}" if probe.row.prompt or probe.row.begun else text)


def _holds(answer: str, secret: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(secret)}(?!\w)", answer, re.IGNORECASE) is not None
