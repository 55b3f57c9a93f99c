"""Prefixes as text, in vocabularies where the same text is many sequences of ids."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.upstream.base import TokenizerView
from deltaserve.server.upstream.text.prefixes import LONGEST_BRIDGE, PlainText, longest_exact
from tests.support.amounts import examples
from tests.support.table_tokenizer import TableTokenizer
from tests.support.vocabularies import byte_level, sentencepiece_like

# Every way to join a few letters is a token, parts of characters too, and a text of a special token's looks.
WORDS = [b"a", b"b", b"ab", b"ba", b"aba", b" ", b" a", "é".encode(), b"<s>", b"<", b"s", b">", "\ufffd".encode()]
PIECES = [*WORDS, b"\xc3", b"\xa9", b"\xff"]


class Special(TableTokenizer):
    special_ids = frozenset({8})


TOKENIZER = Special(len(PIECES), dict(enumerate(PIECES)))
prefixes = st.lists(st.integers(0, len(PIECES) - 1), min_size=1, max_size=24)


@given(prefixes, st.none() | st.just(8), st.booleans())
@settings(max_examples=examples(100), deadline=None)
def test_what_is_sent_is_read_as_exactly_the_ids_and_nothing_else_is_sent(
    ids: list[int], begins: int | None, reads_specials: bool
) -> None:
    text = PlainText(TOKENIZER, begins, reads_specials).exact(ids)
    if text is not None:
        read = [*([] if begins is None else [begins]), *TOKENIZER.encode(text)]
        assert read == ids
        assert reads_specials or 8 not in ids[begins is not None :]
    elif begins is None and reads_specials:
        assert TOKENIZER.encode(TOKENIZER.decode(ids)) != ids


@given(prefixes)
@settings(max_examples=examples(100), deadline=None)
def test_the_bridge_begins_behind_the_longest_beginning_that_is_a_text(ids: list[int]) -> None:
    exact = PlainText(TOKENIZER).exact
    found = longest_exact(ids, exact)
    if found is None:
        assert all(exact(ids[:n]) is None for n in range(max(1, len(ids) - LONGEST_BRIDGE), len(ids) + 1))
        return
    text, bridge = found
    assert TOKENIZER.encode(text) + bridge == ids and len(bridge) <= LONGEST_BRIDGE
    assert all(exact(ids[: len(ids) - n]) is None for n in range(len(bridge)))


@pytest.fixture(scope="module", params=[byte_level, sentencepiece_like], ids=["byte-level", "sentencepiece"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder: Path = request.param(tmp_path_factory.mktemp("tokenizer"))
    return Tokenizer.load(folder)


@given(data=st.data())
@settings(max_examples=examples(100), deadline=None)
def test_real_tokenizers_read_what_is_sent_as_exactly_the_ids(tokenizer: TokenizerView, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), min_size=1, max_size=12))
    text = PlainText(tokenizer).exact(ids)
    assert text is None or tokenizer.encode(text) == ids


@pytest.mark.parametrize("text", ["The river runs north.", "naïve café — 東京 🙂", "a  b\n\n c", " "])
def test_ordinary_text_can_be_sent(tokenizer: TokenizerView, text: str) -> None:
    ids = tokenizer.encode(text)
    sent = PlainText(tokenizer).exact(ids)
    assert sent is not None and tokenizer.encode(sent) == ids


def test_half_a_character_cannot_be_sent(tokenizer: TokenizerView) -> None:
    parts = [i for i in range(tokenizer.vocab_size) if tokenizer.token_bytes(i) == b"\xe6"]
    assert parts and PlainText(tokenizer).exact([*tokenizer.encode("a"), parts[0]]) is None


def test_a_server_that_begins_texts_by_itself_gets_them_without_that_token() -> None:
    text = PlainText(TOKENIZER, begins=8)
    assert text.exact([8, 0, 1]) is None  # "ab" is a token of its own
    assert text.exact([8, 2]) == "ab"
    assert text.exact([2]) is None  # it would read a token more
