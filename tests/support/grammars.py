"""What a grammar takes, byte by byte."""

from functools import cache

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

END = 256


class _Bytes:
    """A vocabulary of one token per byte, and one that ends an answer."""

    eos_token_id = END
    bos_token_id = None
    special_token_ids = (END,)
    tokens = (*(bytes([byte]) for byte in range(256)), b"<|im_end|>")

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


@cache
def byte_vocabulary() -> LLTokenizer:
    return LLTokenizer(TokenizerWrapper(_Bytes()))


def takes(grammar: str, text: str) -> bool:
    """Whether the grammar takes `text` as a whole answer."""
    matcher = LLMatcher(byte_vocabulary(), grammar, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    ids = list(text.encode())
    return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()
