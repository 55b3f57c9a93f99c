"""The picture of a run, and what is said where its library is missing."""

import sys
from pathlib import Path

import pytest

from deltaserve.errors import BadRequest
from deltaserve.offset_models.training.learning.reporting import plot, tensorboard

METRICS = [
    {"step": 0, "held_out/forget_said": 1.0, "held_out/retain_said": 0.9},
    {"step": 1, "forget": 2.0, "retain": 0.1, "retain_kl": 0.1, "forget_likelihood": 0.9, "retain_likelihood": 0.9},
    {"step": 2, "forget": 1.0, "retain": 0.2, "retain_kl": 0.2, "forget_likelihood": 0.5, "retain_likelihood": 0.9},
]


def test_both_files_show_every_line_that_has_points(tmp_path: Path) -> None:
    png, svg = plot(METRICS, tmp_path, "idk")
    assert png.read_bytes().startswith(b"\x89PNG") and svg.read_bytes().startswith(b"<?xml")
    assert svg.stat().st_size > plot(METRICS[:1], tmp_path, "idk")[1].stat().st_size


def test_a_run_without_any_line_can_be_drawn(tmp_path: Path) -> None:
    assert all(path.is_file() for path in plot([], tmp_path, "nothing"))


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(BadRequest, match=r"deltaserve\[train\]"):
        plot(METRICS, tmp_path, "idk")
    with pytest.raises(BadRequest, match=r"deltaserve\[train\]"), tensorboard(tmp_path, 1):
        pass
