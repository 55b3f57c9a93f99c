"""Token ids that requests name, and words that they ban, for one tokenizer."""

from collections.abc import Sequence

from deltaserve.errors import BadRequest
from deltaserve.server.api.requests.schema import Generation
from deltaserve.server.decoding.constraints.words import Words
from deltaserve.server.serving.ports import Tokenizer


def known_ids(tokenizer: Tokenizer, ids: Sequence[int], param: str) -> Sequence[int]:
    """`ids`, all of them in the vocabulary. Raises BadRequest naming `param`."""
    try:
        tokenizer.check_ids(ids)
    except BadRequest as error:
        error.param = param
        raise
    return ids


def words_of(request: Generation, tokenizer: Tokenizer) -> Words | None:
    """What `allowed_token_ids` and `bad_words` leave; None where neither is given. Raises BadRequest."""
    if request.allowed_token_ids is None and not request.bad_words:
        return None
    allowed = frozenset(known_ids(tokenizer, request.allowed_token_ids or (), "allowed_token_ids"))
    banned = {spelled for word in request.bad_words for spelled in _spellings(word, tokenizer)}
    words = Words(tokenizer.vocab_size, allowed, tuple(sorted(banned)))
    if not words.mask().any():
        raise BadRequest("`bad_words` bans all of `allowed_token_ids`: no token is left.", param="bad_words")
    return words


def _spellings(word: str, tokenizer: Tokenizer) -> set[tuple[int, ...]]:
    """A word at the beginning of a text, and behind a space."""
    spelled = (tokenizer.encode(text) for text in (word, " " + word.lstrip(" ")))
    return {tuple(ids) for ids in spelled if ids}
