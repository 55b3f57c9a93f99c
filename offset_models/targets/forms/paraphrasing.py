"""Questions in the black box's own other words, where it can."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from deltaserve.offset_models.targets.asking import Asks
from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.training.rows.row import Row

FORM: Final = "paraphrase"
FRAMES: Final = (
    "Rewrite this question in other words: {}",
    "Ask the same in a different way. Write the question only: {}",
)
TRIAL: Final = 2  # calls; a black box that can rephrase neither is asked no more
TOKENS: Final = 32
LONGEST: Final = 3  # times as long as the question


async def paraphrased(asks: Asks, probes: Sequence[Probe]) -> list[Probe]:
    """Another wording of the questions among the probes, evenly taken, of as many as there are calls.

    Two calls in all where it gives none at first. Checked: it is one question, another than before, and names what it
    is about. Raises as `Asks.ask`.
    """
    plain = list(filter(_plain, probes))
    count = min(len(plain), asks.calls_left)
    taken = [plain[at * len(plain) // count] for at in range(count)]
    wanted = [(probe, FRAMES[at % len(FRAMES)]) for at, probe in enumerate(taken)]
    first = await _rephrased(asks, wanted[:TRIAL])
    return first + await _rephrased(asks, wanted[TRIAL:]) if first else []


async def _rephrased(asks: Asks, wanted: Sequence[tuple[Probe, str]]) -> list[Probe]:
    rows = [Row(None, (("user", frame.format(_question(probe))),)) for probe, frame in wanted]
    answers = await asks.ask(rows, max_tokens=TOKENS)
    return [
        replace(probe, form=FORM, wording=frame, row=replace(probe.row, messages=(("user", text),)))
        for (probe, frame), (answer,) in zip(wanted, answers, strict=True)
        if (text := usable(probe, answer))
    ]


def usable(probe: Probe, answer: str) -> str:
    """The question that the answer holds in its first line; empty where it is none, or asks for something else."""
    text, asked = answer.strip().partition("\n")[0].strip(' "“”*'), _question(probe)
    same = text.casefold() == asked.casefold() or len(text) > LONGEST * len(asked)
    about = probe.subject.named_in(text) or _by_value(probe, text)
    told = any(secret.casefold() in text.casefold() for secret in probe.secrets)
    return "" if same or not about or told or text.count("?") != 1 or not text.endswith("?") else text


def _by_value(probe: Probe, text: str) -> bool:
    """Of a reversed question: whether what it starts from is still there."""
    fact = probe.fact
    return fact is not None and bool(fact.value) and fact.value not in probe.secrets and fact.value in text


def _plain(probe: Probe) -> bool:
    """One question in a chat of its own."""
    row = probe.row
    return (
        len(row.messages) == 1 and not row.begun and row.messages[0][1].endswith("?") and "\n" not in _question(probe)
    )


def _question(probe: Probe) -> str:
    return probe.row.messages[-1][1]
