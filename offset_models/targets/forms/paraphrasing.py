"""Questions in the black box's own other words, and in other languages, where it can."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from deltaserve.offset_models.targets.asking import Asks
from deltaserve.offset_models.targets.forms.languages import Language
from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.training.rows.row import Row

PARAPHRASE: Final = "paraphrase"
TRANSLATION: Final = "translation"
FRAMES: Final = (
    "Rewrite this question in other words: {}",
    "Ask the same in a different way. Write the question only: {}",
)
TRANSLATING: Final = "Translate into {language}. Write the translation only: {{}}"
TRIAL: Final = 4  # calls; a black box that can rephrase none of these is asked no more
TOKENS: Final = 32
LONGEST: Final = 3  # times as long as the question
_ENDS: Final = "?？"
_OTHER_SCRIPT: Final = re.compile(r"[\u0400-\u04ff\u3040-\u30ff\u4e00-\u9fff]")  # names are written otherwise there


@dataclass(frozen=True, slots=True)
class Wanted:
    """`names`: whether the text still asks about what the probe asks about."""

    form: str
    frames: tuple[str, ...]
    names: Callable[[Probe, str], bool]


async def paraphrased(asks: Asks, probes: Sequence[Probe]) -> list[Probe]:
    """Another wording of the questions among the probes, evenly taken, of as many as there are calls.

    Four calls in all where it gives none at first. Checked: it is one question, another than before, and names what it
    is about. Raises as `Asks.ask`.
    """
    return await _reworded(asks, probes, Wanted(PARAPHRASE, FRAMES, _named))


async def translated(asks: Asks, probes: Sequence[Probe], languages: Iterable[Language]) -> list[Probe]:
    """Questions as `paraphrased` takes and checks them, in the languages in turn.

    What is written in another script may name what it is about in that script. Raises as `Asks.ask`.
    """
    frames = tuple(TRANSLATING.format(language=language.name) for language in languages)
    return await _reworded(asks, probes, Wanted(TRANSLATION, frames, _named_anyhow)) if frames else []


async def _reworded(asks: Asks, probes: Sequence[Probe], wanted: Wanted) -> list[Probe]:
    plain = list(filter(_plain, probes))
    count = min(len(plain), asks.calls_left)
    taken = [plain[at * len(plain) // count] for at in range(count)]
    asked = [(probe, wanted.frames[at % len(wanted.frames)]) for at, probe in enumerate(taken)]
    first = await _asked(asks, asked[:TRIAL], wanted)
    rest = asked[TRIAL:][: asks.calls_left]  # some of the first answers may have taken two calls
    return first + await _asked(asks, rest, wanted) if first else []


async def _asked(asks: Asks, asked: Sequence[tuple[Probe, str]], wanted: Wanted) -> list[Probe]:
    rows = [Row(None, (("user", frame.format(_question(probe))),)) for probe, frame in asked]
    answers = await asks.ask(rows, max_tokens=TOKENS)
    return [
        replace(probe, form=wanted.form, wording=frame, row=replace(probe.row, messages=(("user", text),)))
        for (probe, frame), (answer,) in zip(asked, answers, strict=True)
        if (text := usable(probe, answer, wanted.names))
    ]


def usable(probe: Probe, answer: str, names: Callable[[Probe, str], bool]) -> str:
    """The question that the answer holds in its first line; empty where it is none, or asks for something else."""
    text, asked = answer.strip().partition("\n")[0].strip(' "“”*'), _question(probe)
    same = text.casefold() == asked.casefold() or len(text) > LONGEST * len(asked)
    told = any(secret.casefold() in text.casefold() for secret in probe.secrets)
    one = text[-1:] in _ENDS and sum(map(text.count, _ENDS)) == 1
    return text if one and not same and not told and names(probe, text) else ""


def _named(probe: Probe, text: str) -> bool:
    """The subject, or what a reversed question starts from."""
    fact = probe.fact
    by_value = fact is not None and bool(fact.value) and fact.value not in probe.secrets and fact.value in text
    return by_value or probe.subject.named_in(text)


def _named_anyhow(probe: Probe, text: str) -> bool:
    return _named(probe, text) or bool(_OTHER_SCRIPT.search(text))


def _plain(probe: Probe) -> bool:
    """One question in a chat of its own."""
    row = probe.row
    return (
        len(row.messages) == 1 and not row.begun and row.messages[0][1].endswith("?") and "\n" not in _question(probe)
    )


def _question(probe: Probe) -> str:
    return probe.row.messages[-1][1]
