"""Where a sentence about a subject breaks off, so that what comes next tells something of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from deltaserve.offset_models.metrics.disclosure import own_words
from deltaserve.offset_models.targets.subject import Subject


@dataclass(frozen=True, slots=True)
class Beginning:
    """A text and how it goes on."""

    text: str
    rest: str
    form: str = "sentence"


def broken_off(sentence: str, subject: Subject) -> Beginning | None:
    """Before the first name or number behind the subject's name, else before the last word that tells something.

    The rest goes as far as the next mark. None for a sentence that does not name the subject before it.
    """
    words = sentence.split()
    places = [at for at in range(1, len(words)) if _behind_name(words, at, subject)]
    telling = [at for at in places if own_words(" ".join(words[:at]), words[at])]
    if not telling:
        return None
    at = next((at for at in telling if not words[at][0].islower()), telling[-1])
    end = next((end for end in range(at, len(words)) if words[end][-1:] in ",;:.!?)"), len(words) - 1)
    return Beginning(" ".join(words[:at]), " ".join(words[at : end + 1]))


def _behind_name(words: Sequence[str], at: int, subject: Subject) -> bool:
    """Whether the subject is named before the word, which is no part of a name of its."""
    here = len(" ".join(words[:at]))
    names = subject.places_in(" ".join(words))
    return any(end <= here for _, end in names) and not any(begin <= here < end for begin, end in names)
