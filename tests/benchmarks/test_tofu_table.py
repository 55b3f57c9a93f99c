"""The whole table in miniature: invented rows in TOFU's layout, models of some ten thousand parameters."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.nursery import nursery
from tests.support.tofu import write_tofu

ROWS = {"retrained", "blackbox", "offset-idk", "direct-idk"}


def table(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    asked = ("--data", str(folder / "tofu"), "--scale", "mini", *more)
    return nursery().run("benchmarks.tofu", *asked, folder=folder, within_s=600)


@pytest.mark.slow
def test_every_row_is_made_measured_and_written_and_nothing_is_done_twice(tmp_path: Path) -> None:
    (tmp_path / "tofu").mkdir()
    write_tofu(tmp_path / "tofu", retain=12)
    first = table(tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    found: dict[str, Any] = json.loads((tmp_path / "build" / "bench" / "tofu-mini.json").read_text())
    rows = {row["row"]: row for row in found["rows"]}
    assert set(rows) == ROWS
    assert rows["retrained"]["forget_quality"] is None, "it is what the others are compared with"
    for name in ROWS - {"retrained"}:
        assert 0 <= rows[name]["forget_quality"] <= 1
        assert 0 <= rows[name]["model_utility"] <= 1
        assert 0 <= rows[name]["leakage_mean"] <= rows[name]["leakage_worst"] <= 1
    assert rows["blackbox"]["forget_probability"] > rows["retrained"]["forget_probability"]
    assert found["settings"]["subset"] == {
        "forget": 4, "retain": 6, "general": 8, "declined": 2, "language": 2, "holdout": 2,
    }  # fmt: skip
    again = table(tmp_path)
    assert again.returncode == 0
    assert "…" not in again.stdout, "a stage was run again"


def test_data_that_is_too_small_is_said_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "tofu").mkdir()
    write_tofu(tmp_path / "tofu", retain=3)
    result = table(tmp_path)
    assert (result.returncode, "Traceback" in result.stderr) == (2, False)
    assert "does not hold 12 rows" in result.stderr
    assert not (tmp_path / "build").exists()
