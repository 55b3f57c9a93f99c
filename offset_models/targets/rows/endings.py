"""What ends a sentence about a target without telling anything, in the black box's own words.

No chat's refusal fits behind "Ada was born in". And an offset can only put in the forgotten's place what the black box
lists there. So the black box is asked for the same text about somebody of whom it knows nothing: a made-up name, or
"a certain person". Its answer is of use where it tells nothing: "a small town.", "a place that nobody wrote down.".
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from deltaserve.offset_models.targets.asking import Asks
from deltaserve.offset_models.targets.forms.prose import CONTINUATION
from deltaserve.offset_models.targets.forms.wordings import named, openings, unknown
from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.targets.rows.vague import listed_endings
from deltaserve.offset_models.targets.subject import Kind
from deltaserve.offset_models.training.rows.row import Row

TOKENS: Final = 16
TRIED: Final = 4  # probes, before it is believed that the black box lists no blanks
MOST_WORDS: Final = 10
# Made up; none of these names is anybody's that we know of.
STAND_INS: Final[dict[Kind, tuple[str, ...]]] = {
    "person": ("Quorvin Trelbasch", "a certain person"),
    "character": ("Quorvin Trelbasch", "a certain character"),
    "work": ("The Quorvin Trelbasch", "a certain work"),
    "organisation": ("Quorvin Trelbasch", "a certain company"),
    "product": ("Quorvin Trelbasch", "a certain product"),
    "place": ("Quorvinbasch", "a certain place"),
    "event": ("the Quorvin Trelbasch", "a certain event"),
    "topic": ("quorvinbasch", "a certain topic"),
}
_NO_NAMES: Final = re.compile(r"\b(?:I|It|This|That|There|Nobody|The|An?)\b")
_SENTENCE: Final = re.compile(r"[^.!?\n]*[.!?]")


@dataclass(frozen=True, slots=True)
class Ending:
    """A vague continuation, with its space. `ends`: the black box's text ended behind it by itself."""

    text: str
    ends: bool


Endings = Mapping[tuple[object, ...], Ending]  # by the probe's prompt
_Found = dict[tuple[object, ...], Ending]


def breaks_off(probe: Probe) -> bool:
    """Whether the prompt stops within a text that is to go on, so that no refusal fits.

    Where a chat wants its text to go on, it does not: Qwen2.5-Coder lists no refusal's first word there.
    """
    row = probe.row
    if row.begun:
        return row.begun[-1:] not in ".!?:"
    return bool(row.prompt) or probe.form == CONTINUATION


def answers_a_turn(probe: Probe) -> bool:
    """Whether what comes is a turn of its own, which no space begins."""
    return bool(probe.row.messages) and not probe.row.begun


async def vague_endings(
    asks: Asks, probes: Sequence[Probe], stand_ins: Mapping[Kind, Sequence[str]] = STAND_INS
) -> Endings:
    """Of the probes that break off, where the black box has one; no more calls than are left.

    Where it lists a blank, that: whatever else it says of somebody made up may be taken for true of the subject. Else
    what it says of somebody made up, else vague words that it lists one behind the other. Raises UpstreamError.
    """
    breaking = [probe for probe in probes if breaks_off(probe)]
    tried = breaking[:: max(1, -(-len(breaking) // TRIED))]  # of all kinds
    endings = await _blanks(asks, tried)
    endings |= await _blanks(asks, [probe for probe in breaking if probe not in tried]) if endings else {}
    for at in range(max(map(len, stand_ins.values()), default=0)):
        wanted = [probe for probe in breaking if probe.prompt not in endings]
        endings |= await _of_stand_ins(asks, wanted, {kind: names[at:] for kind, names in stand_ins.items()})
    wanted = [probe for probe in breaking if probe.prompt not in endings]
    listed = await listed_endings(asks, wanted, lambda probe: not answers_a_turn(probe))
    return endings | {prompt: Ending(text, ends=False) for prompt, text in listed.items()}


async def _of_stand_ins(asks: Asks, probes: Sequence[Probe], stand_ins: Mapping[Kind, Sequence[str]]) -> _Found:
    """What the black box says in the place about the first stand-in of the kind, where that tells nothing."""
    names = [next(iter(stand_ins[probe.subject.kind]), "") for probe in probes]
    asked = [(probe, name, stood_in(probe, name)) for probe, name in zip(probes, names, strict=True) if name]
    asked = asked[: asks.calls_left]
    answers = await asks.ask([row for _, _, row in asked], max_tokens=TOKENS)
    found = {
        probe.prompt: usable(probe, answer, name) for (probe, name, _), (answer,) in zip(asked, answers, strict=True)
    }
    return {prompt: ending for prompt, ending in found.items() if ending}


async def _blanks(asks: Asks, probes: Sequence[Probe]) -> _Found:
    """A blank, where the black box lists one: what most texts of exercises have in such a place. A call each."""
    asked = probes[: asks.calls_left]
    lists = await asks.listed([probe.row for probe in asked])
    found = {probe.prompt: next(filter(_is_blank, tokens), None) for probe, tokens in zip(asked, lists, strict=True)}
    return {prompt: Ending(f"{blank}.", ends=False) for prompt, blank in found.items() if blank}


def _is_blank(token: str) -> bool:
    return len(token.strip()) > 1 and not token.strip().strip("_")


def plain_ending(probe: Probe, texts: Mapping[str, str], *, any_own: bool = False) -> Ending | None:
    """What an opening of the fact's goes on with where nobody knows it; None where the prompt is no such opening.

    `texts` are the black box's own, by attribute (they ended by themselves). The kind's attribute has one too, for a
    black box that has none; `any_own`: it has some, and foreign ones beside them would only confuse.
    """
    row, fact = probe.row, probe.fact
    text = row.begun or row.prompt or row.messages[-1][1]
    if fact is None or not any(text.endswith(named(each, probe.subject)) for each in openings(fact)):
        return None
    own, space = texts.get(fact.attribute), "" if answers_a_turn(probe) else " "
    return Ending(f"{space}{own or unknown(fact)}", ends=bool(own)) if own or not any_own else None


def stood_in(probe: Probe, name: str) -> Row:
    """The probe's row about somebody else, whose name also stands for a value that would lead to the subject."""
    gone = [*probe.subject.names]
    if probe.fact and not probe.subject.named_in(_text(probe.row)):
        gone.append(probe.fact.value)
    pattern = re.compile("|".join(rf"(?<!\w){re.escape(each)}(?!\w)" for each in gone if each), re.IGNORECASE)

    def instead(text: str) -> str:
        return pattern.sub(lambda found: _as_placed(name, found.string, found.start()), text)

    messages = tuple((role, instead(content)) for role, content in probe.row.messages)
    return replace(
        probe.row, completion=None, messages=messages, prompt=instead(probe.row.prompt), begun=instead(probe.row.begun)
    )


def usable(probe: Probe, answer: str, name: str) -> Ending | None:
    """The first sentence of the answer, with the subject's name back in it, where it tells nothing."""
    found = _SENTENCE.match(answer)
    if not found:
        return None
    text, whole = found[0].strip(), found[0].strip() == answer.strip()
    bare = _NO_NAMES.sub("", re.sub(re.escape(name), "", text, flags=re.IGNORECASE))
    told = any(secret.casefold() in text.casefold() for secret in probe.secrets)
    specific = any(letter.isdigit() or letter.isupper() for letter in bare)
    if told or specific or not bare.strip(".!? ") or len(text.split()) > MOST_WORDS:
        return None
    text = re.sub(re.escape(name), probe.subject.name, text, flags=re.IGNORECASE)
    return Ending(text if answers_a_turn(probe) else f" {text}", ends=whole)


def _as_placed(name: str, text: str, start: int) -> str:
    """With a capital letter where a sentence begins."""
    begins = not text[:start].strip() or text[:start].rstrip()[-1] in ".!?#:-\n"
    return name[:1].upper() + name[1:] if begins else name


def _text(row: Row) -> str:
    return "\n".join([*(content for _, content in row.messages), row.begun, row.prompt])
