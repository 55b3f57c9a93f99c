"""A token that is always shown is found in vocabularies of all kinds."""

from pathlib import Path

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.upstream.dialects.forcing import plain_token
from tests.support import vocabularies


def test_a_token_of_its_own_is_taken_as_the_tokenizer_writes_it(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(vocabularies.byte_level(tmp_path / "bytes"))
    assert tokenizer.token_bytes(plain_token(tokenizer)) == b"!"


def test_where_every_text_gets_a_space_before_it_the_vocabulary_has_one_all_the_same(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(vocabularies.sentencepiece_like(tmp_path / "pieces"))
    assert len(tokenizer.token_bytes(plain_token(tokenizer))) == 1
