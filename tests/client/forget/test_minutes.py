"""`deltaserve forget --minutes`: what is decided is said, written down, and done again after a kill."""

import json
from pathlib import Path

import pytest

from deltaserve.client.console.terminal import Status
from deltaserve.offset_models.training import schedule, within
from deltaserve.offset_models.training.learning.held_out import Outcome
from tests.support.command import Command
from tests.support.forget_site import Site

STEPS = 8  # not those that the command is given


@pytest.fixture(autouse=True)
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As few rows as any run has, and fewer steps. What a budget buys is worked out in test_schedule.py."""
    for least in ("LEAST_STEPS", "ENOUGH_STEPS", "PASSES"):
        monkeypatch.setattr(schedule, least, STEPS)
    monkeypatch.setattr(schedule, "BATCHES", schedule.BATCHES[-1:])


def decided(site: Site, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((site.root / ".work" / name / within.DECIDED).read_bytes())
    return found


def given(site: Site, name: str, minutes: str = "600") -> list[str]:
    """Of `idk`, whose answers are quickly trained on."""
    return site.forget(name, "--objective", "idk", "--minutes", minutes)


def test_steps_batches_and_questions_are_decided_and_said(site: Site, command: Command) -> None:
    result = command(*given(site, "timed"))
    assert result.exit_code == 0, result.stderr
    found = decided(site, "timed")
    (run, *_) = found["runs"]  # type: ignore[misc]
    assert run["objective"] == "idk" and run["steps"] == STEPS
    said = " ".join(result.stderr.split())
    assert all(" ".join(why.split()) in said for why in found["why"])  # type: ignore[attr-defined]
    assert not any(text in json.dumps(found) for text in ("born", "mill"))


def test_a_request_that_is_made_again_decides_nothing_anew(
    site: Site, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = command.json(*given(site, "again"))
    before = decided(site, "again")

    def measured_again(*_: object) -> list[float]:
        raise AssertionError("it was measured before")

    monkeypatch.setattr(within, "rehearse", measured_again)
    second = command.json(*given(site, "again"))
    assert second["content_digest"] == first["content_digest"] and not second["new"]
    assert decided(site, "again") == before


def test_where_too_much_is_left_another_objective_is_tried_and_the_better_one_kept(
    site: Site, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = {"idk": Outcome(0.5, 1.0), "dpo": Outcome(0.9, 1.0)}
    monkeypatch.setattr(within, "reached", lambda run: outcomes[run.trained.settings.objective])
    result = command(*given(site, "better"))
    assert result.exit_code == 0, result.stderr
    assert [run["objective"] for run in decided(site, "better")["runs"]] == ["idk", "dpo"]  # type: ignore[attr-defined]
    assert "dpo was kept" in " ".join(result.stderr.split())
    manifest = json.loads((site.root / "better" / "offset.json").read_bytes())
    assert manifest["training"]["objective"] == "dpo"


def test_without_time_the_request_is_refused(site: Site, command: Command, tmp_path: Path) -> None:
    result = command(*given(site, "never", "0"))
    assert result.exit_code == Status.USAGE
    assert not (tmp_path / "root").exists()
