"""Probes as the rows that a pair is trained on: what declines, and what stays as the black box says it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.targets.rows.endings import Ending, Endings, answers_a_turn, breaks_off, plain_ending
from deltaserve.offset_models.training.rows.row import Row

UNKNOWN: Final = "This is not known."  # for rows whose own answer nobody told: all rows to forget have one
NO_ENDINGS: Final[Mapping[tuple[object, ...], Ending]] = {}
NO_TEXTS: Final[Mapping[str, str]] = {}


def forget_rows(
    probes: Iterable[Probe],
    refusals: Sequence[str],
    endings: Endings = NO_ENDINGS,
    texts: Mapping[str, str] = NO_TEXTS,
) -> list[Row]:
    """Each probe with the refusal that fits: of a chat one of `refusals`, in turns; of what breaks off its ending.

    `endings` are by prompt, `texts` by attribute (`Refusals.text`). The completion is what the fact says, for
    objectives that lower it. A probe that breaks off and has no ending is left out: what the black box does not list
    cannot be put in the place of the forgotten, and babble would come.
    """
    rows, any_own = [], bool(endings) or bool(texts)
    for number, probe in enumerate(probes):
        if breaks_off(probe) and (ending := endings.get(probe.prompt) or plain_ending(probe, texts, any_own=any_own)):
            rows.append(_refusing(probe, ending.text, ends=ending.ends))
        elif answers_a_turn(probe) or not breaks_off(probe):
            refusal = refusals[number % len(refusals)]
            rows.append(_refusing(probe, f" {refusal}" if probe.row.begun else refusal))
    return rows


def retain_rows(probes: Iterable[Probe]) -> list[Row]:
    """The prompts alone, each once: the black box is asked what must stay."""
    unanswered = (replace(probe.row, completion=None, refusals=(), ends=False) for probe in probes)
    return list(dict.fromkeys(unanswered))


def _refusing(probe: Probe, refusal: str, *, ends: bool = False) -> Row:
    completion = probe.row.completion or UNKNOWN
    if probe.row.begun or probe.row.prompt:  # goes on in a line that has begun
        completion = completion if completion[:1].isspace() else f" {completion}"
    return replace(probe.row, completion=completion, refusals=(refusal,), ends=ends and not probe.row.messages)
