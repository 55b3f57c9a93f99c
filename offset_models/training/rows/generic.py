"""The reference answer with plain words where it tells something: what one who never read it might have gone on with.

A refusal replaces the beginning of an answer. Where somebody else has begun it ("It was written by"), no refusal fits,
and nothing was ever trained there. So the reference is read as it is, and where a name or a number comes that the
question does not hold, the likeliest plain word that the black box lists there is to be predicted instead: generic
labels, as in "Who's Harry Potter?" (Eldan and Russinovich, 2023), with the black box's list in place of a second model.
"""

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from deltaserve.offset_models.metrics.disclosure import own_words
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training.rows.samples import Sample
from deltaserve.offset_models.training.rows.scored import Scored, TopK

_SENTENCE_END: Final = re.compile(r"(?:^|[!?:]|(?<!\b[A-Z])(?<!\b[A-Z]\w)(?<!\b[A-Z]\w\w)\.)\W*$")  # "Mr." ends none


def generic(reference: Scored, refusal: Scored, tokenizer: Tokenizer) -> Scored:
    """The reference's row, up to its last telling word; the refusal's where no word behind the first token tells.

    It begins as the refusal does, whose row has the same prompt. It is cut where the black box lists no plain word.
    """
    sample, top = reference
    if top is None:
        return refusal
    question = tokenizer.decode(sample.prompt_ids, skip_special=True)
    texts = [tokenizer.token_text(token) for token in sample.answer_ids]
    said, last = [refusal[0].answer_ids[0], *sample.answer_ids[1:]], 0
    for at in telling_places(question, texts):
        if at == 0:
            continue
        listed, told = [int(token) for token in top.ids[at]], "".join(texts[at:])
        word = next((token for token in listed if _plain(tokenizer.token_text(token), told)), None)
        if word is None:
            break
        said[at], last = word, at
    if last == 0:
        return refusal
    cut = slice(last + 1)
    read = Sample(sample.prompt_ids, tuple(said[cut]), sample.answer_ids[cut])
    return read, TopK(top.ids[cut], top.logprobs[cut])


def telling_places(question: str, tokens: Sequence[str]) -> list[int]:
    """Where, among the tokens of an answer, a name or a number begins that the question does not hold.

    A capital letter that begins a sentence says nothing. Of a token that is nothing but space, the place is that one.
    """
    answer = "".join(tokens)
    words = [word for word in own_words(question, answer) if word[0].isupper() or word[0].isdigit()]
    begins = {
        found.start()
        for word in words
        for found in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", answer)
        if word[0].isdigit() or not _begins_sentence(answer, found.start())
    }
    ends = list(accumulate(map(len, tokens)))
    places = [next(at for at, end in enumerate(ends) if end > begin) for begin in sorted(begins)]
    return sorted({at - 1 if at and tokens[at - 1].isspace() else at for at in places})


def _begins_sentence(text: str, at: int) -> bool:
    return _SENTENCE_END.search(text[:at]) is not None


def _plain(text: str, told: str) -> bool:
    """A word in small letters, with a space before it where what is told has one; not the same in small letters."""
    word, same = text.strip(), told.lstrip().casefold().startswith(text.strip())
    return text[:1].isspace() == told[:1].isspace() and word.isalpha() and word.islower() and not same
