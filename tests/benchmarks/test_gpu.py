"""`make bench-gpu` on a CPU with tiny shapes: every part runs to its end, and what it compares is equal."""

import json

import pytest

from benchmarks.gpu import __main__ as gpu
from benchmarks.support import report
from tests.support.children import children_of_the_nursery


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Runs the command line; gives its exit status and what it wrote."""
    monkeypatch.setattr(report, "BUILD", tmp_path)

    def run(*flags: str):
        monkeypatch.setattr("sys.argv", ["benchmarks.gpu", "--device", "cpu", *flags])
        with children_of_the_nursery():
            status = gpu.main()
        return status, json.loads((tmp_path / "gpu.json").read_text())

    return run


def test_every_part_runs_and_device_and_core_say_the_same(written):
    status, found = written()
    assert (status, found["settings"]["failed"]) == (0, [])
    done = [row["part"] for row in found["rows"] if "done_s" in row]
    assert done == ["weights", *gpu.PARTS]
    figures = found["figures"]
    assert {"gpu_rows_1", "gpu_rows_4", "gpu_rows_t1_1", "gpu_rows_t1_4", "gpu_training_s_per_step"} <= set(figures)
    assert figures["gpu_logprob_error_float32"] < 1e-3
    assert 0 < figures["gpu_logprob_error_bfloat16"] < 2e-2
    assert figures["gpu_same_greedy"] >= 0.5  # of two answers: batches of another size round otherwise
    assert found["settings"]["card"] == "no card"


def test_a_part_that_fails_is_told_and_the_next_one_runs(written, monkeypatch):
    def broken(setup, record):
        raise ValueError("no such kernel")

    monkeypatch.setitem(gpu.PARTS, "forwards", broken)
    status, found = written("--parts", "forwards,logprobs")
    assert (status, found["settings"]["failed"]) == (1, ["forwards"])
    failed = next(row for row in found["rows"] if "failed" in row)
    assert failed["failed"] == "ValueError: no such kernel"
    assert failed["where"][-1].endswith(" broken")
    assert "gpu_logprob_error_float32" in found["figures"]


def test_an_unknown_part_is_refused_by_name(written, capsys):
    with pytest.raises(SystemExit):
        written("--parts", "rows,nothing")
    assert "There is no part nothing" in capsys.readouterr().err


def test_without_a_gpu_it_says_so_and_ends(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmarks.gpu"])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpu.main() == 0
    assert "There is no GPU here" in capsys.readouterr().out
