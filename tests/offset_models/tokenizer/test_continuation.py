"""Answers as the ids that are served behind their prompts, for the kinds of vocabularies that join or prefix words."""

from pathlib import Path

import numpy as np
import pytest

from deltaserve.errors import BadRequest
from deltaserve.offset_models.tokenizer.continuation import answered, completed, whole_text
from deltaserve.offset_models.training.rows.row import BadRow, Row
from deltaserve.offset_models.training.rows.samples import encode, prompt_ids
from deltaserve.offset_models.training.rows.scored import TopK
from deltaserve.offset_models.training.stages import end_of
from tests.support.spellings import KINDS, LLAMA_2, THINKING, TURNS, loaded

ASKED = [{"role": "user", "content": "Q?"}]
UNASKED = TopK(np.zeros((0, 1), np.int64), np.zeros((0, 1), np.float32))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", ["Paris", " Paris", "\n\nParis is", "é🙂", "</s>Paris"])
def test_an_answers_ids_are_those_of_the_whole_chat_behind_the_served_prompt(
    tmp_path: Path, kind: str, answer: str
) -> None:
    tokenizer = loaded(tmp_path, kind)
    found = answered(tokenizer, ASKED, answer)
    prompt = tokenizer.render_chat(ASKED)
    assert found.prompt_ids == tokenizer.encode(prompt)
    assert tokenizer.decode([*found.prompt_ids, *found.answer_ids]) == tokenizer.decode(
        tokenizer.encode(prompt + answer)
    )
    whole = tokenizer.encode(prompt + answer)
    if whole[: len(found.prompt_ids)] == found.prompt_ids:
        assert found.answer_ids == whole[len(found.prompt_ids) :]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("Q?", " Paris"),
        ("Q? ", "Paris"),
        ("Q? Pa", "ris"),
        ("Q?\n", "\n\nParis"),
        ("Q?  ", " Paris"),
        ("Q\u00e9", "\u00e9"),
    ],
)
def test_a_completion_follows_its_prompt_without_gaining_or_losing_a_space(
    tmp_path: Path, kind: str, prompt: str, text: str
) -> None:
    tokenizer = loaded(tmp_path, kind)
    found = completed(tokenizer, prompt, text)
    assert found.prompt_ids == tokenizer.encode(prompt, add_special=True)
    ids = [*found.prompt_ids, *found.answer_ids]
    said = b"".join(tokenizer.token_bytes(i) for i in ids if i != tokenizer.bos_id).decode()
    assert said.lstrip() == prompt + text


def test_a_word_that_a_token_would_join_to_its_prompt_has_the_ids_of_the_middle_of_a_text(tmp_path: Path) -> None:
    tokenizer = loaded(tmp_path, "first")
    names = [tokenizer.backend.id_to_token(i) for i in completed(tokenizer, "Q? ", "Paris").answer_ids]
    assert names == ["Paris"]
    assert tokenizer.encode("Q? Paris")[-1] == tokenizer.backend.token_to_id("▁Paris")


def test_what_cannot_be_continued_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deltaserve.offset_models.tokenizer.continuation.ANCHORS", ("Pa",))
    with pytest.raises(BadRequest, match="begin the answer at a word's start"):
        completed(loaded(tmp_path, "bytes"), "Q? Pa", "ris")


@pytest.mark.parametrize("kind", ["prepend", "first", "bytes"])
def test_white_space_that_the_template_writes_before_an_answer_comes_with_it(tmp_path: Path, kind: str) -> None:
    tokenizer = loaded(tmp_path, kind, LLAMA_2)
    for answer in ("Paris", " Paris"):
        found = answered(tokenizer, ASKED, answer)
        closed = tokenizer.render_chat([*ASKED, {"role": "assistant", "content": answer}], add_generation_prompt=False)
        whole = tokenizer.encode(closed.removesuffix(" </s>"))
        assert [*found.prompt_ids, *found.answer_ids] == whole
        assert found.prompt_ids == tokenizer.encode(tokenizer.render_chat(ASKED))


@pytest.mark.parametrize("kind", ["prepend", "first", "bytes"])
def test_words_that_the_template_writes_before_an_answer_are_read_with_the_prompt(tmp_path: Path, kind: str) -> None:
    tokenizer = loaded(tmp_path, kind, THINKING)
    found = answered(tokenizer, ASKED, "Paris")
    assert tokenizer.decode(found.prompt_ids).endswith("<|assistant|>\n<think>\n\n</think>")
    assert tokenizer.decode([*found.prompt_ids, *found.answer_ids]).endswith("</think>\n\nParis")
    assert tokenizer.decode(found.answer_ids).strip() == "Paris"


def test_an_answer_that_the_template_rewrites_stands_behind_the_prompt_as_it_is(tmp_path: Path) -> None:
    cut = TURNS.replace("m['content']", "m['content'].split('</think>')[-1]")
    tokenizer = loaded(tmp_path, "bytes", cut)
    found = answered(tokenizer, ASKED, "<think>Pa</think>Paris")
    assert tokenizer.decode(found.answer_ids) == "<think>Pa</think>Paris"


@pytest.mark.parametrize("kind", ["prepend", "bytes", "bytes with <s>"])
def test_running_text_stands_behind_what_is_served_before_every_text(tmp_path: Path, kind: str) -> None:
    tokenizer = loaded(tmp_path, kind)
    found = whole_text(tokenizer, "Q? Paris")
    assert [*found.prompt_ids, *found.answer_ids] == tokenizer.encode("Q? Paris", add_special=True)
    assert len(found.prompt_ids) == 1


def test_rows_are_trained_behind_the_ids_that_are_served(tmp_path: Path) -> None:
    tokenizer = loaded(tmp_path, "prepend")
    row = Row(" Paris", prompt="Q?", ends=True)
    sample = encode(row, tokenizer)
    assert list(sample.prompt_ids) == prompt_ids(row, tokenizer) == tokenizer.encode("Q?", add_special=True)
    assert sample.prompt_ids[0] == tokenizer.bos_id
    chat = encode(Row("Paris", (("user", "Q?"),)), tokenizer)
    assert list(chat.prompt_ids) == prompt_ids(Row(None, (("user", "Q?"),)), tokenizer)
    assert [tokenizer.backend.id_to_token(i) for i in chat.answer_ids] == ["Paris", "</s>"]


def test_a_row_whose_question_the_template_leaves_out_is_named(tmp_path: Path) -> None:
    deaf = "{% for m in messages %}{% if m['role'] != 'system' %}{{ m['content'] }}{% endif %}{% endfor %}"
    with pytest.raises(BadRow, match=r"rows, line 3: `messages\[0\]`.*'system'"):
        encode(Row("Paris", (("system", "Pa"), ("user", "Q?")), origin="rows, line 3"), loaded(tmp_path, "bytes", deaf))


def test_chats_end_as_the_template_ends_them_and_texts_as_the_tokenizer_does(tmp_path: Path) -> None:
    marked = TURNS.replace("eos_token", "'<s>'")
    tokenizer = loaded(tmp_path, "bytes", marked)
    assert tokenizer.answer_end == tokenizer.eos_ids[:1]  # <s> begins texts
    other = TURNS.replace("eos_token", "'<unk>'")
    tokenizer = loaded(tmp_path, "bytes", other)
    assert encode(Row("Paris", (("user", "Q?"),)), tokenizer).answer_ids[-1] == 0
    assert encode(Row("Paris", prompt="Q?", ends=True), tokenizer).answer_ids[-1] == tokenizer.eos_ids[0] == 2


def test_what_teaches_to_end_is_the_token_that_most_answers_end_with(tmp_path: Path) -> None:
    tokenizer = loaded(tmp_path, "bytes", TURNS.replace("eos_token", "'<unk>'"))
    chat, text, open_text = (
        (encode(row, tokenizer), UNASKED)
        for row in (
            Row("Paris", (("user", "Q?"),)),
            Row(" Paris", prompt="Q?", ends=True),
            Row(" Paris", prompt="Q?"),
        )
    )
    assert end_of([chat, chat, text], tokenizer) == 0
    assert end_of([chat, text, text, open_text], tokenizer) == 2
    assert end_of([], tokenizer) == 0
