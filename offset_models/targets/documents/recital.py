"""Running text of documents that the black box goes on with as they do: it knows it by heart."""

from collections.abc import Sequence
from typing import Final

from deltaserve.offset_models.metrics.disclosure import own_words, says
from deltaserve.offset_models.metrics.overlap import rouge_l_recall
from deltaserve.offset_models.targets.asking import Asks
from deltaserve.offset_models.targets.breaking_off import Beginning, broken_off
from deltaserve.offset_models.targets.documents.passages import sentences
from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.targets.subject import Subject
from deltaserve.offset_models.training.rows.row import Row

GOES_ON_TOKENS: Final = 32
LEAST_RECALL: Final = 0.6  # ROUGE-L, of the document's own words, as far as the continuation goes
FEWEST_WORDS: Final = 8  # of a beginning: with fewer it may lead anywhere
SENTENCES: Final = 2  # of a passage, from which it is begun too


async def recited(asks: Asks, subject: Subject, passages: Sequence[str]) -> list[Probe]:
    """Probes of running text, from beginnings that the black box goes on with by heart, each with the true rest.

    Asks up to 1 + SENTENCES calls a passage, as far as the calls go. Raises UpstreamError.
    """
    begun = list(dict.fromkeys(each for passage in passages for each in beginnings(passage, subject)))
    begun = begun[: asks.calls_left]
    said = await asks.ask([Row(None, prompt=each.text) for each in begun], max_tokens=GOES_ON_TOKENS)
    return [_probe(subject, each) for each, (text,) in zip(begun, said, strict=True) if knows(each, text)]


def beginnings(passage: str, subject: Subject) -> list[Beginning]:
    """The first half of the passage, and sentences broken off behind the subject's name."""
    broken = (broken_off(sentence, subject) for sentence in sentences(passage))
    named = [each for each in broken if each is not None][:SENTENCES]
    half = _half(passage)
    return named if half is None else [half, *named]


def knows(begun: Beginning, said: str) -> bool:
    """Whether the continuation is the document's: most of its words, and one at least that tells something."""
    told = said.split()
    rest = " ".join(begun.rest.split()[: max(len(told), 1)])
    new = own_words(begun.text, rest)
    return rouge_l_recall(rest, said) >= LEAST_RECALL and any(says(said, word) for word in new)


def _half(passage: str) -> Beginning | None:
    words = passage.split(" ")
    at = len(words) // 2
    return Beginning(" ".join(words[:at]), " ".join(words[at:]), "passage") if at >= FEWEST_WORDS else None


def _probe(subject: Subject, begun: Beginning) -> Probe:
    near = " ".join(begun.rest.split()[:GOES_ON_TOKENS])
    row = Row(f" {begun.rest}", prompt=begun.text)  # the space goes to the word behind it, as tokens are cut
    return Probe(begun.form, subject, row, secrets=own_words(begun.text, near))
