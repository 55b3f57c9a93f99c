"""Rows of a request on disk, which people edit."""

import json
from pathlib import Path

import pytest

from deltaserve.errors import BadRequest, Conflict, CorruptState
from deltaserve.offset_models.targets.request.rows_folder import PARTS, Parts, RowsFolder, RowsRecord, TargetRow
from deltaserve.offset_models.training.rows.row import BadRow, Row

REQUEST = "a" * 64
RECORD = RowsRecord(request=REQUEST, model="m", address="c" * 64, calls=12, seconds=3.5, notes=("Few facts.",))
FORGET = TargetRow(
    Row(" Nenstead.", prompt="Vuxan Zunweld was born in", refusals=(" a town.",), ends=True),
    "running",
    "target",
    ("Nenstead",),
)
RETAIN = TargetRow(Row(None, (("user", "What causes the tides?"),)), "general", "general")


@pytest.fixture
def folder(tmp_path: Path) -> RowsFolder:
    folder = RowsFolder(tmp_path / "rows")
    folder.write(Parts({"forget": [FORGET], "retain": [RETAIN]}), RECORD, "# Page\n")
    return folder


def test_rows_come_back_as_they_were_written(folder: RowsFolder) -> None:
    parts = folder.read()
    assert parts["forget"] == [FORGET] and parts["retain"] == [RETAIN]
    assert all(not parts[part] for part in PARTS if part not in ("forget", "retain"))
    assert folder.record(REQUEST) == RECORD
    assert not parts.chooses


def test_edited_rows_are_taken_as_they_are(folder: RowsFolder) -> None:
    (folder.path / "forget.jsonl").write_text('{"question": "Who is she?", "answer": "Vuxan."}\n\n')
    (row,) = folder.read()["forget"]
    assert (row.row.completion, row.form, row.group, row.secrets) == ("Vuxan.", "own", "target", ())


def test_the_mark_that_some_editors_put_before_a_text_is_no_fault(folder: RowsFolder) -> None:
    (folder.path / "forget.jsonl").write_text('{"question": "Who is she?", "answer": "Vuxan."}\n', encoding="utf-8-sig")
    assert len(folder.read()["forget"]) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 1: it is not JSON"),
        ("[]", "line 1: it is not an object"),
        ('{"question": "Who?", "answer": "She.", "group": "others"}', "line 1: its group is none of"),
        ('{"question": "Who?", "answer": "She.", "secrets": "She"}', "line 1: secrets is not a list"),
    ],
)
def test_a_bad_line_is_named_and_not_quoted(folder: RowsFolder, line: str, said: str) -> None:
    (folder.path / "retain.jsonl").write_text(line + "\n")
    with pytest.raises(BadRow, match=said) as refused:
        folder.read()
    assert "retain.jsonl" in refused.value.message and "Who" not in refused.value.message


def test_a_missing_file_is_named(folder: RowsFolder) -> None:
    (folder.path / "judge-forget.jsonl").unlink()
    with pytest.raises(BadRequest, match=r"judge-forget\.jsonl is missing"):
        folder.read()


def test_rows_of_another_request_are_refused(folder: RowsFolder) -> None:
    with pytest.raises(Conflict, match="another request"):
        folder.record("b" * 64)


def test_without_a_record_the_rows_are_not_complete(folder: RowsFolder) -> None:
    (folder.path / "request.json").unlink()
    assert folder.record(REQUEST) is None


def test_a_torn_record_is_refused(folder: RowsFolder) -> None:
    (folder.path / "request.json").write_text("{")
    with pytest.raises(CorruptState, match="cannot be read"):
        folder.record(REQUEST)


def test_the_record_holds_no_text(folder: RowsFolder) -> None:
    assert set(json.loads((folder.path / "request.json").read_text())) == set(RowsRecord.model_fields)
    assert folder.path / "request.json" not in folder.files()
