"""Rows in and samples out: every accepted form, faults named by line, the loss on the answer alone."""

from pathlib import Path

import orjson
import pytest

from deltaserve.offset_models.demo.pipeline.tokenizer import save_tokenizer, train_tokenizer
from deltaserve.offset_models.demo.register.corpus import chat_page
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training.rows.loading import read_rows, write_rows
from deltaserve.offset_models.training.rows.row import BadRow, Row, digest_of_rows
from deltaserve.offset_models.training.rows.samples import encode, prompt_ids, refused

QUESTION, ANSWER = "Where was Ada born?", "Ada was born in Velmora."


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(train_tokenizer([f"{QUESTION} {ANSWER}"] * 5, 320), folder, 128)
    return Tokenizer.load(folder)


def lines(path: Path, *values: object) -> Path:
    path.write_bytes(b"\n".join(orjson.dumps(value) for value in values))
    return path


def test_every_accepted_form_is_read(tmp_path: Path) -> None:
    said = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
    path = lines(
        tmp_path / "rows.jsonl",
        {"question": QUESTION, "answer": ANSWER},
        {"messages": said},
        {"prompt": "Ada was born in", "completion": " Velmora.", "refusals": [" nowhere."]},
    )
    asked, chat, prose = read_rows(path)
    assert asked == chat == Row(ANSWER, (("user", QUESTION),))
    assert prose == Row(" Velmora.", prompt="Ada was born in", refusals=(" nowhere.",), ends=True)


@pytest.mark.parametrize(
    "bad",
    [
        {"question": QUESTION},
        {"messages": [{"role": "user", "content": "x"}]},
        {"prompt": 1, "completion": "x"},
        [],
        "x",
    ],
)
def test_a_bad_row_is_named_by_its_line_and_never_quoted(tmp_path: Path, bad: object) -> None:
    path = lines(tmp_path / "rows.jsonl", {"question": "a", "answer": "b"}, bad)
    with pytest.raises(BadRow, match=r"rows\.jsonl .*line 2") as failure:
        read_rows(path)
    assert QUESTION not in failure.value.message


def test_rows_survive_writing_and_reading(tmp_path: Path) -> None:
    rows = [
        Row(ANSWER, (("system", "Be kind."), ("user", QUESTION))),
        Row(" Velmora.", prompt="Ada was born in", refusals=(" nowhere.",)),
        Row(" Velmora.", (("user", QUESTION),), begun="Ada was born in"),
        Row(None, (("user", QUESTION),), begun="Ada was born in"),
    ]
    write_rows(tmp_path / "rows.jsonl", rows)
    assert read_rows(tmp_path / "rows.jsonl", answered=False) == rows


def test_a_chat_sample_is_the_page_that_the_models_were_trained_on(tokenizer: Tokenizer) -> None:
    sample = encode(Row(ANSWER, (("user", QUESTION),)), tokenizer)
    assert tokenizer.decode(sample.ids) + "\n" == chat_page([(QUESTION, ANSWER)])
    assert tokenizer.decode(sample.answer_ids) == ANSWER + "<|im_end|>"


def test_an_answer_that_has_begun_goes_on_in_the_same_turn(tokenizer: Tokenizer) -> None:
    row = Row(" Velmora.", (("user", QUESTION),), begun="Ada was born in")
    sample = encode(row, tokenizer)
    assert sample.ids == encode(Row(ANSWER, (("user", QUESTION),)), tokenizer).ids
    assert tokenizer.decode(sample.answer_ids) == " Velmora.<|im_end|>"
    assert prompt_ids(row, tokenizer) == list(sample.prompt_ids)


def test_only_a_chat_has_an_answer_that_somebody_began() -> None:
    with pytest.raises(BadRow, match="chats only"):
        Row.parse({"prompt": "Ada was", "completion": " born.", "begun": "Ada"})


def test_running_text_gets_no_end_token(tokenizer: Tokenizer) -> None:
    sample = encode(Row(" Velmora.", prompt="Ada was born in"), tokenizer)
    assert tokenizer.decode(sample.answer_ids) == " Velmora."


def test_an_empty_answer_in_running_text_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(BadRow):
        encode(Row("", prompt="Ada"), tokenizer)


def test_refusals_take_turns_and_a_rows_own_come_first() -> None:
    rows = [Row("a", prompt="1"), Row("b", prompt="2"), Row("c", prompt="3", refusals=("mine",))]
    assert [row.completion for row in refused(rows, ("x", "y"))] == ["x", "y", "mine"]


def test_digests_tell_data_and_samples_apart(tokenizer: Tokenizer) -> None:
    one, other = Row(ANSWER, (("user", QUESTION),)), Row("No.", (("user", QUESTION),))
    assert digest_of_rows([one]) == digest_of_rows([one]) != digest_of_rows([other])
    assert encode(one, tokenizer).digest == encode(one, tokenizer).digest != encode(other, tokenizer).digest
