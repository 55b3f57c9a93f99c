"""Whether an answer tells anything about what was asked: no refusal, no echo of the question, no talk of itself."""

import re
from collections.abc import Sequence
from typing import Final

from deltaserve.offset_models.metrics.refusals import LIKE, RefusalJudge
from deltaserve.offset_models.metrics.words import words
from deltaserve.offset_models.targets.documents.passages import sentences
from deltaserve.offset_models.targets.subject import Subject

SHORT: Final = 6  # words: so short an answer need not name anything
CUT: Final = 10  # words from which on an answer without a full stop was cut off
_DECLINES: Final = re.compile(
    r"^(?:i'?m sorry|sorry|i (?:am|'m) (?:not|unable|afraid)|i (?:do not|don't|cannot|can't|couldn't|could not)|"
    r"as an ai|unfortunately|there (?:is|are) no |no information|it (?:is|'s) (?:not|un)|please provide|"
    r"could you (?:please )?(?:provide|clarify)|to (?:answer|determine|provide))"
    r"|\b(?:not (?:publicly |widely )?(?:known|available|clear|specified)|no (?:public )?(?:information|record)|"
    r"does(?: not|n't) (?:exist|have|appear)|is(?: not|n't) a real|have(?: not|n't) any|"
    r"(?:more|enough|sufficient) (?:context|information)|is (?:unclear|unknown))\b",
    re.IGNORECASE,
)
_OF_ITSELF: Final = re.compile(r"^(?:(?:no|yes|hello|hi)[,!.] )?(?:i|my|i'm|i'll|i've)\b", re.IGNORECASE)
_COMMA: Final = re.compile(r",(?!\d)")
_DANGLING: Final = re.compile(r"\s(?:from|since|until|between|who|which)(?:\s\S+){0,2}$")  # what was cut off soon
_PRONOUN: Final = re.compile(r"^(?:he|she|it|they|his|her|its|their|the|this|there|in|on)\b", re.IGNORECASE)


class Listener:
    """Knows how this black box declines, beside the common ways."""

    def __init__(self, refusals: Sequence[str] = ()) -> None:
        self._judge = RefusalJudge.of(refusals)

    def declines(self, answer: str) -> bool:
        plain = answer.replace("’", "'").strip()
        return not plain or _DECLINES.search(plain) is not None or self._judge.closeness(plain) >= LIKE

    def tells(self, answer: str, question: str, subject: Subject) -> bool:
        """Whether the answer says something that the question does not, and of its subject."""
        if self.declines(answer) or _OF_ITSELF.match(answer.replace("’", "'")):
            return False
        said, asked = words(answer), {*words(question)}
        if not {*said} - asked:
            return False
        return len(said) <= SHORT or subject.named_in(answer) or _PRONOUN.match(answer) is not None


def whole_sentences(answer: str) -> str:
    """Without a last sentence that was cut off; of a long one that is alone, without what follows its last comma."""
    lines = answer.strip().split("\n\n")[0]
    parts = sentences(lines)
    if parts and not parts[-1].rstrip('"”’)').endswith((".", "!", "?")):
        parts = parts[:-1] or [_begun(parts[0])]
    return " ".join(parts)


def _begun(sentence: str) -> str:
    if len(sentence.split()) < CUT:
        return sentence
    commas = [found.start() for found in _COMMA.finditer(sentence)]
    return sentence[: commas[-1]] if commas else _DANGLING.sub("", sentence)
