"""The rows of the worked erasure request: as their maker writes them, readable, and none that judges was trained on."""

from pathlib import Path

from benchmarks.example_request import NAME, OUT, main
from deltaserve.client.evaluation.data.items import FORGET
from deltaserve.client.evaluation.data.suites import attack_suite, custom_suite
from deltaserve.offset_models.training.rows.loading import load

ROOT = Path(__file__).parents[2]


def test_the_files_are_those_that_are_written(tmp_path: Path) -> None:
    main(tmp_path)
    made = {str(file.relative_to(tmp_path)): file.read_bytes() for file in tmp_path.rglob("*.jsonl")}
    there = {str(file.relative_to(ROOT / OUT)): file.read_bytes() for file in (ROOT / OUT).rglob("*.jsonl")}
    assert made == there


def test_nothing_of_the_forgotten_stands_among_what_must_stay() -> None:
    for name in ("retain.jsonl", "held-out-retain.jsonl", "judge/retain.jsonl"):
        assert NAME not in (ROOT / OUT / name).read_text("utf-8")


def test_no_wording_that_judges_was_trained_on_or_chose() -> None:
    trained = load(str(ROOT / OUT / "forget.jsonl"), answered=True).rows
    seen = {wording for row in trained for wording in (row.messages[-1][1] if row.messages else "", *row.paraphrases)}
    chose = {row.messages[-1][1] for row in load(str(ROOT / OUT / "held-out-forget.jsonl"), answered=True).rows}
    judged = {item.question for item in custom_suite(ROOT / OUT / "judge").items if item.split == FORGET}
    attacked = {item.question for item in attack_suite(ROOT / OUT / "attacks.jsonl").forget}
    assert judged and attacked
    assert not (judged | attacked) & (seen | chose)
    assert not chose & seen
