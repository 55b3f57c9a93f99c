"""A token that is always shown is found in vocabularies of all kinds."""

from pathlib import Path

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.upstream.dialects.forcing import plain_token
from tests.support import vocabularies


def test_a_plain_character_that_is_one_token_is_used(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(vocabularies.byte_level(tmp_path / "bytes"))
    assert tokenizer.token_bytes(plain_token(tokenizer)) == b"!"


def test_a_tokenizer_that_puts_a_space_before_every_text_has_a_plain_token_in_its_vocabulary(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(vocabularies.sentencepiece_like(tmp_path / "pieces"))
    assert len(tokenizer.token_bytes(plain_token(tokenizer))) == 1
