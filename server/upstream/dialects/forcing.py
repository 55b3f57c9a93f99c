"""A token that an upstream can be made to draw so that it shows a position it would have swallowed."""

from deltaserve.server.upstream.base import TokenizerView

_PLAIN = ("!", ".", ",", "a", "0", "A", "1", " ")


def plain_token(tokenizer: TokenizerView) -> int | None:
    """An id of one visible ASCII character, so that its text is never held back; None when there is none."""
    for text in _PLAIN:
        ids = tokenizer.encode(text)
        if len(ids) == 1 and tokenizer.token_bytes(ids[0]) == text.encode():
            return ids[0]
    # Encoding may put a space before a text: then none of them is a token of its own, and is in the vocabulary though.
    wanted = {text.encode() for text in _PLAIN}
    return next((i for i in range(tokenizer.vocab_size) if tokenizer.token_bytes(i) in wanted), None)
