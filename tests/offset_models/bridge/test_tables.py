"""Byte-level BPE and byte-fallback SentencePiece, one in front of the other."""

import json

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers

from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.bridge.bridges import Bridges
from deltaserve.offset_models.bridge.spelled import Spelled, spelled
from deltaserve.offset_models.bridge.tables import interval_tables
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from tests.support.vocabularies import byte_level, sentencepiece_like


@pytest.fixture(scope="module")
def box(tmp_path_factory) -> Spelled:
    return spelled(Tokenizer.load(byte_level(tmp_path_factory.mktemp("box"))), "The black box's")


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Spelled:
    return spelled(Tokenizer.load(sentencepiece_like(tmp_path_factory.mktemp("pair"))), "The pair's")


@pytest.fixture(params=["box in front", "pair in front"])
def two(request, box, pair) -> tuple[Spelled, Spelled]:
    return (box, pair) if request.param == "box in front" else (pair, box)


def test_every_id_has_the_interval_of_the_tokens_that_begin_with_its_bytes(two):
    front, behind = two
    tables = interval_tables(front, behind)
    for token_id, word in enumerate(front.vocabulary.spellings):
        inside = behind.vocabulary.words[tables.first[token_id] : tables.end[token_id]]
        assert inside == [other for other in behind.vocabulary.words if word and other.startswith(word)]


def test_the_parent_of_an_id_is_the_longest_other_that_begins_it(box, pair):
    tables, words = interval_tables(box, pair), box.vocabulary.spellings
    for token_id, word in enumerate(words):
        begin = [other for other in words if other and word and word != other and word.startswith(other)]
        parent = int(tables.parent[token_id])
        assert (words[parent] if parent >= 0 else None) == max(begin, key=len, default=None)


def test_ends_and_marks_are_no_text(box):
    tokenizer = box.tokenizer
    end = tokenizer.backend.token_to_id("<|im_end|>")
    assert end in box.ends
    assert all(box.vocabulary.spellings[i] is None for i in tokenizer.special_ids)


def test_a_byte_of_fallback_spells_that_byte(pair):
    token_id = pair.tokenizer.backend.token_to_id("<0xE6>")
    assert pair.vocabulary.spelling(token_id) == b"\xe6"


def test_bytes_inside_a_text_gain_no_space(pair):
    assert pair.encode(b"ab") == [pair.tokenizer.backend.token_to_id("ab")]
    assert pair.encode(b"\xe6\x9d") is None


@pytest.mark.parametrize("text", ["naïve café — 東京 🙂", "I'm not sure.  Who?", "<|im_end|>"])
def test_the_one_way_to_write_a_text_is_the_tokenizers_own(box, text):
    raw = text.encode()
    assert list(box.tree.whole((), raw)) == [tuple(box.tokenizer.encode_words(text))]


def test_characters_that_the_vocabulary_lacks_are_written_by_their_bytes(pair):
    raw = "ab東".encode()
    (path,) = pair.tree.whole((), raw)
    assert [pair.vocabulary.spelling(i) for i in path] == [b"ab", b"\xe6", b"\x9d", b"\xb1"]


def test_tables_are_built_once_and_anew_when_the_file_is_damaged(box, pair, tmp_path):
    made = interval_tables(box, pair, tmp_path)
    (file,) = tmp_path.iterdir()
    written = file.read_bytes()
    file.write_bytes(written[:-7])
    again = interval_tables(box, pair, tmp_path)
    assert again.first.equal(made.first) and again.parent.equal(made.parent)
    assert file.read_bytes() == written
    before = file.stat().st_mtime_ns
    assert interval_tables(box, pair, tmp_path).end.equal(made.end)
    assert file.stat().st_mtime_ns == before


def test_other_tokenizers_have_other_files(box, pair, tmp_path):
    interval_tables(box, pair, tmp_path)
    interval_tables(pair, box, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_models_of_one_tokenizer_with_other_ends_have_bridges_of_their_own(pair, tmp_path):
    chat, base = (
        Tokenizer.load(byte_level(tmp_path / end, config={"eos_token": f"<|{end}|>", "chat_template": None}))
        for end in ("im_end", "endoftext")
    )
    bridges = Bridges(pair.tokenizer, tmp_path / "tables")
    assert chat.fingerprint.ids == base.fingerprint.ids
    ends = [[bridges.to(each).ends.tolist()] for each in (chat, base, chat)]
    assert ends[0] != ends[1]
    assert ends[0] == ends[2]
    assert len(list((tmp_path / "tables").iterdir())) == 2


def folder_of(backend: Backend, folder):
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(backend.to_str(), "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({}), "utf-8")
    return folder


def test_a_tokenizer_that_two_neighbours_tell_nothing_of_is_refused(tmp_path):
    backend = Backend(models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0))
    backend.decoder = decoders.Metaspace()
    with pytest.raises(BadCheckpoint, match="only BPE"):
        spelled(Tokenizer.load(folder_of(backend, tmp_path)), "The pair's")


def test_a_tokenizer_that_changes_letters_is_refused(tmp_path):
    backend = Backend(models.BPE({"a": 0, "b": 1}, []))
    backend.decoder = decoders.ByteLevel()
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    with pytest.raises(BadCheckpoint, match="Lowercase changes the text"):
        spelled(Tokenizer.load(folder_of(backend, tmp_path)), "The pair's")
