"""Rows from files and elsewhere: forms, missing answers, bad rows all named at once, what ships with the package."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
import pytest

from deltaserve.offset_models.training.rows.loading import generic_prompts, load, read_refusals, read_rows, write_rows
from deltaserve.offset_models.training.rows.row import BadRow, Row
from deltaserve.offset_models.training.rows.samples import wordings


def lines(path: Path, *values: object) -> Path:
    path.write_bytes(b"\n".join(value if isinstance(value, bytes) else orjson.dumps(value) for value in values))
    return path


def test_tofus_files_are_read_as_they_are(tmp_path: Path) -> None:
    perturbed = {"paraphrased_question": "Who is it?", "paraphrased_answer": "x", "perturbed_answer": ["y", "z"]}
    options = {"option1": "Ada", "option2": "Bo"}
    path = lines(
        tmp_path / "forget.jsonl",
        {"question": "Who?", "answer": "Ada.", **perturbed},
        {"question": "Who wrote it?", "answer": "Bo.", **options},
    )
    first, second = read_rows(path)
    assert first == Row("Ada.", (("user", "Who?"),), paraphrases=("Who is it?",))
    assert second == Row("Bo.", (("user", "Who wrote it?"),))


def test_each_wording_is_a_row_of_its_own_with_the_same_answer() -> None:
    chat = Row("Ada.", (("system", "Be kind."), ("user", "Who?")), paraphrases=("Who is it?", "Say who."))
    asked = [row.messages[-1][1] for row in wordings([chat])]
    assert asked == ["Who?", "Who is it?", "Say who."]
    assert {row.completion for row in wordings([chat])} == {"Ada."}
    assert all(row.messages[0] == ("system", "Be kind.") for row in wordings([chat]))
    assert [row.prompt for row in wordings([Row(" x", prompt="a", paraphrases=("b",))])] == ["a", "b"]


def test_every_bad_row_is_named_by_line_and_reason_and_none_is_quoted(tmp_path: Path) -> None:
    bad: list[object] = [
        b'{"question": "secret',
        {"question": "secret", "answer": ["secret"]},
        {"messages": []},
        {"messages": [{"role": "assistant", "content": "secret"}]},
        {"secret": "secret"},
    ]
    path = lines(tmp_path / "rows.jsonl", {"text": "fine"}, *bad)
    with pytest.raises(BadRow) as failure:
        read_rows(path)
    said = failure.value.message
    assert all(f"line {number}: " in said for number in range(2, 7)) and "line 1" not in said
    assert "not JSON" in said and "answer is not a string" in said and "--skip-bad" in said
    assert "secret" not in said
    assert len(read_rows(path, skip_bad=True)) == 1


def test_a_row_without_an_answer_is_bad_only_where_one_is_needed(tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", {"question": "Who?"}, {"prompt": "Once"})
    assert [row.completion for row in read_rows(path, answered=False)] == [None, None]
    with pytest.raises(BadRow, match=r"line 1: it has no answer; line 2: it has no answer"):
        read_rows(path)


def test_a_file_without_a_row_and_one_that_is_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRow, match="no row"):
        read_rows(lines(tmp_path / "empty.jsonl", b"", b" "))
    with pytest.raises(BadRow, match="cannot be read"):
        read_rows(tmp_path / "absent.jsonl")


def test_all_forms_survive_writing_and_reading(tmp_path: Path) -> None:
    rows = [
        Row("A whole text."),
        Row("One that ends.", ends=True),
        Row(" x", prompt="a", ends=True, refusals=("no",)),
        Row(None, (("user", "Who?"),), paraphrases=("Who is it?",)),
    ]
    write_rows(tmp_path / "rows.jsonl", rows)
    assert read_rows(tmp_path / "rows.jsonl", answered=False) == rows


def test_the_packages_prompts_are_many_and_varied_from_the_first_on() -> None:
    prompts = generic_prompts()
    assert len({row.messages for row in prompts}) == len(prompts) >= 100
    assert all(row.completion is None for row in prompts)
    assert generic_prompts(3) == prompts[:3]
    with pytest.raises(BadRow, match=str(len(prompts))):
        generic_prompts(1000)


def test_refusals_are_the_packages_own_or_a_files(tmp_path: Path) -> None:
    assert len(set(read_refusals())) >= 10
    assert read_refusals(lines(tmp_path / "idk.jsonl", {"text": "No."}, {"text": "No idea."})) == ("No.", "No idea.")
    with pytest.raises(BadRow, match="holds no refusals"):
        read_refusals(lines(tmp_path / "chat.jsonl", {"question": "Who?", "answer": "Ada."}))


def test_refusals_may_be_plain_lines_as_tofus_are(tmp_path: Path) -> None:
    (tmp_path / "idontknow.jsonl").write_text("I'm not certain about that.\n\nThat is beyond me.\r\n")
    assert read_refusals(tmp_path / "idontknow.jsonl") == ("I'm not certain about that.", "That is beyond me.")


def test_a_dataset_without_the_library_is_refused_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(BadRow, match=r"pip install 'deltaserve\[datasets\]'"):
        load("hf:owner/name")


def test_a_dataset_is_read_by_name_configuration_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def load_dataset(name: str, config: str | None, split: str) -> list[Any]:
        asked.append((name, config, split))
        return [{"question": "Who?", "answer": "Ada."}, {"question": None}]

    library = ModuleType("datasets")
    library.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", library)
    found = load("hf:owner/name,small:test")
    load("hf:owner/name")
    assert asked == [("owner/name", "small", "test"), ("owner/name", None, "train")]
    assert found.rows == [Row("Ada.", (("user", "Who?"),))]
    assert found.bad == ["row 2: question is missing"]
