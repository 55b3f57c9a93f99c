"""One source of text: what is encoded comes back, from answers' text, from bytes and from /detokenize alike."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from tests.support.amounts import examples
from tests.support.vocabularies import byte_level, sentencepiece_like

WORDS = ["đem", "café", "Müller", "日本", "    ", "ß ß", "<tag>"]
RUNS = ["▁▁", "▁▁▁▁", "\n\n", "<tag>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def written(folder: Path, backend: Backend, added: list[str] = [], **config: Any) -> Tokenizer:  # noqa: B006
    folder.mkdir(parents=True, exist_ok=True)
    source = json.loads(backend.to_str())
    vocabulary = source["model"]["vocab"]
    known = vocabulary if isinstance(vocabulary, dict) else {piece: i for i, (piece, _) in enumerate(vocabulary)}
    size = len(set(known) | {token["content"] for token in source["added_tokens"]})
    for content in added:
        token_id = known.get(content, size)
        size += token_id == size
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
        source["added_tokens"].append({"id": token_id, "content": content, **flags})
    source["added_tokens"].sort(key=lambda token: token["id"])
    (folder / "tokenizer.json").write_text(json.dumps(source), "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return Tokenizer.load(folder)


def qwen(folder: Path) -> Tokenizer:
    return Tokenizer.load(byte_level(folder))


def llama(folder: Path) -> Tokenizer:
    return Tokenizer.load(sentencepiece_like(folder))


def words_added(folder: Path) -> Tokenizer:
    return written(folder, Backend.from_file(str(byte_level(folder) / "tokenizer.json")), WORDS)


def gemma(folder: Path) -> Tokenizer:
    """Runs of spaces are vocabulary entries and added tokens at once; nothing is put before a text."""
    pieces = ["<unk>", "<s>", "</s>", *BYTES, "▁", "a", "b", "▁a", "▁▁", "▁▁▁▁"]
    merges = [("▁", "a"), ("▁", "▁"), ("▁▁", "▁▁")]
    model = models.BPE({p: i for i, p in enumerate(pieces)}, merges, unk_token="<unk>", byte_fallback=True)
    backend = Backend(model)
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    return written(folder, backend, RUNS)


def metaspace(folder: Path) -> Tokenizer:
    """A Unigram vocabulary whose decoder drops the mark before a text's first word."""
    letters = [*"abcxyz.,\n", "▁▁", "▁a", "▁b"]
    pieces = [("<unk>", 0.0), ("▁", -2.0), *((letter, -3.0) for letter in letters)]
    backend = Backend(models.Unigram([*pieces, *((byte, -9.0) for byte in BYTES)], 0, True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="always")])
    backend.add_special_tokens(["<unk>"])
    return written(folder, backend)


KINDS = [qwen, words_added, llama, gemma, metaspace]
TEXT = st.text(
    st.one_of(st.sampled_from([*"ab x", "é", "ß", "日", "🌶", "\n"]), st.characters(codec="utf-8")), max_size=12
)
MIXED = st.lists(st.one_of(TEXT, st.sampled_from([*WORDS, "    ", "  ", "\n\n"])), max_size=5).map("".join)


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.__name__)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    make: Callable[[Path], Tokenizer] = request.param
    return make(tmp_path_factory.mktemp(make.__name__))


def streamed(tokenizer: Tokenizer, ids: list[int], prompt: list[int]) -> str:
    detokenizer = tokenizer.detokenizer(prompt)
    return "".join(map(detokenizer.step, ids)) + detokenizer.flush()


def plain(text: str) -> str:
    """▁ is how these vocabularies write a space: a text that holds one comes back with a space."""
    return text.replace("▁", " ")


@given(text=MIXED)
def test_a_text_comes_back_from_its_ids(tokenizer: Tokenizer, text: str) -> None:
    if tokenizer.encode(" a") == tokenizer.encode("a"):  # it does not tell a text from one with a space before it
        text = text.lstrip(" ▁")
    ids = tokenizer.encode(text)
    said = streamed(tokenizer, ids, [])
    assert plain(said) == plain(text)
    assert tokenizer.decode(ids) == tokenizer.decode(ids, skip_special=True) == said
    raw = b"".join(map(tokenizer.token_bytes, ids)).decode()
    assert raw in (said, " " + said)  # some encodings put a space before a text


@given(text=MIXED, at=st.integers(0, 60))
def test_prompt_and_answer_are_one_text_wherever_it_is_cut(tokenizer: Tokenizer, text: str, at: int) -> None:
    """Also inside a character, which the answer then shows as a whole."""
    ids = tokenizer.encode(text)
    prompt, answer = ids[:at], ids[at:]
    before = b"".join(map(tokenizer.token_bytes, prompt))
    whole = b"".join(map(tokenizer.token_bytes, ids)).decode()
    said = whole[len(before.decode(errors="ignore")) :]
    if not before:
        said = tokenizer.decode(ids)
    elif not answer:
        said = ""
    assert streamed(tokenizer, answer, prompt) == said


@settings(max_examples=examples(100), deadline=None)
@given(data=st.data())
def test_any_ids_at_all_show_the_bytes_of_the_answer(tokenizer: Tokenizer, data: st.DataObject) -> None:
    """Stray bytes are U+FFFD, and nothing around them is lost."""
    tokens = st.integers(3, tokenizer.vocab_size - 1).filter(lambda i: i not in tokenizer.special_ids)
    prompt, answer = data.draw(st.lists(tokens, max_size=9)), data.draw(st.lists(tokens, max_size=9))
    told = b"".join(map(tokenizer.token_bytes, answer)).decode(errors="replace")
    said = streamed(tokenizer, answer, [*prompt, *tokenizer.encode("a")])
    assert said == told
    after_prompt = streamed(tokenizer, answer, prompt)
    assert after_prompt.endswith(told.lstrip("\ufffd ")) and len(after_prompt) >= len(told) - 4


def test_the_librarys_own_text_is_the_same_where_it_is_right(tokenizer: Tokenizer) -> None:
    for text in ("a b", "ab  a", "日本 🌶\n", "a\u00a0b"):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == tokenizer.backend.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("word", WORDS)
def test_an_added_token_of_a_byte_level_vocabulary_is_its_text(tmp_path: Path, word: str) -> None:
    tokenizer = words_added(tmp_path)
    (token_id,) = tokenizer.encode(word)
    assert tokenizer.token_bytes(token_id) == word.encode()
    assert tokenizer.decode([token_id]) == streamed(tokenizer, [token_id], []) == word


def test_an_added_token_that_merges_make_too_is_what_they_make_it_of(tmp_path: Path) -> None:
    """`ĠĠ` as a vocabulary entry that is also listed as an added token: two spaces."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate([*letters, "ĠĠ"])}
    backend = Backend(models.BPE(vocabulary, [("Ġ", "Ġ")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = written(tmp_path, backend, ["ĠĠ"])
    assert tokenizer.encode("  ") == [256]
    assert tokenizer.token_bytes(256) == b"  "


@pytest.mark.parametrize("run", ["▁▁", "▁▁▁▁"])
def test_a_run_of_spaces_is_spaces_even_as_an_added_token(tmp_path: Path, run: str) -> None:
    tokenizer = gemma(tmp_path)
    ids = tokenizer.encode(" " * len(run))
    assert [tokenizer.token_bytes(i) for i in ids] == [b" " * len(run)]
    assert streamed(tokenizer, ids, []) == tokenizer.backend.decode(ids) == " " * len(run)


def test_a_half_character_that_the_answer_does_not_go_on_with_is_the_prompts_own(tmp_path: Path) -> None:
    tokenizer = llama(tmp_path)
    pepper, letter = tokenizer.encode("🌶")[1:], tokenizer.backend.token_to_id("c")
    assert streamed(tokenizer, [letter], pepper[:2]) == "c"
    assert streamed(tokenizer, [], pepper[:2]) == ""
    assert streamed(tokenizer, [pepper[2], letter], pepper[:2]) == "\ufffdc"


def test_only_special_tokens_before_an_answer_leave_it_the_beginning_of_a_text(tmp_path: Path) -> None:
    tokenizer = llama(tmp_path)
    ids = tokenizer.encode("ab")
    assert streamed(tokenizer, ids, [1] * 9) == "ab"
    assert streamed(tokenizer, ids, [*ids, *[1] * 9]) == " ab"
