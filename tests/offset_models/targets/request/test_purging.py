"""A purge leaves no word of the target behind, whatever a stopped run left, and takes nothing from a run at work."""

from pathlib import Path

import pytest

from deltaserve.errors import Conflict
from deltaserve.offset_models.targets.asking.journal import opened_journal
from deltaserve.offset_models.targets.request.purging import purge
from deltaserve.offset_models.targets.request.rows_folder import PARTS, Parts, RowsFolder, RowsRecord, TargetRow
from deltaserve.offset_models.training.rows.row import Row

NAME = "Vuxan Zunweld"
FORGET = TargetRow(Row("In Nenstead.", (("user", f"Where was {NAME} born?"),)), "direct", "target", ("Nenstead",))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    record = RowsRecord(request="a" * 64, model="m", address="c" * 64, calls=1, seconds=0.1)
    RowsFolder(tmp_path / "rows").write(Parts({"forget": [FORGET]}), record, f"# {NAME}\n")
    return tmp_path


def test_a_file_that_a_killed_run_had_half_written_goes_too(work: Path) -> None:
    half = work / "rows" / ".forget.jsonl.0a1b2c3d.tmp"
    half.write_text('{"messages": [{"role": "user", "content": "Born in Nenste')
    done = purge(work, work / "checkpoint", NAME)
    assert half in done.deleted and not half.exists() and not done.left


def test_of_a_run_that_was_killed_before_its_rows_were_whole_the_half_written_ones_go(tmp_path: Path) -> None:
    half = tmp_path / "rows" / ".forget.jsonl.0a1b2c3d.tmp"
    half.parent.mkdir()
    half.write_text(NAME)
    assert purge(tmp_path, tmp_path / "checkpoint", NAME).deleted == [half]


def test_where_a_run_is_at_work_nothing_is_deleted(work: Path) -> None:
    before = {path: path.read_bytes() for path in work.rglob("*.jsonl")}
    with opened_journal(work, "box", "ids"), pytest.raises(Conflict, match="another process"):
        purge(work, work / "checkpoint", NAME)
    assert before.items() <= {path: path.read_bytes() for path in work.rglob("*.jsonl")}.items()


def test_rows_that_somebody_broke_while_editing_are_deleted_and_other_copies_of_them_are_named(work: Path) -> None:
    rows = work / "rows" / "forget.jsonl"
    (work / "rows" / "forget.jsonl~").write_bytes(rows.read_bytes())
    (work / "rows" / "retain.jsonl").write_text("{\n")
    (work / "copy.txt").write_text(f"The man was called {NAME}.")
    done = purge(work, work / "checkpoint", NAME)
    assert not any((work / "rows" / f"{part}.jsonl").exists() for part in PARTS)
    assert {path.name for path in done.left} == {"forget.jsonl~", "copy.txt"}


def test_a_collection_whose_record_is_damaged_is_named_and_nothing_is_deleted(work: Path) -> None:
    record = work / "collected-train" / "collection.json"
    record.parent.mkdir()
    record.write_text("{")
    with pytest.raises(Conflict, match=r"collected-train.*delete that folder by hand"):
        purge(work, work / "checkpoint", NAME)
    assert (work / "rows" / "forget.jsonl").exists()
