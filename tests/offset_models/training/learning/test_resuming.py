"""A run that was killed goes on from its last state, and ends with the weights of one that was not."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from deltaserve.errors import BadRequest
from deltaserve.offset_models.training.learning.run_folder import METRICS, STATE, RunFolder, read_state
from deltaserve.offset_models.training.learning.student import tensors
from tests.offset_models.training.tiny_run import KILLED, SETTINGS, trained
from tests.support.nursery import nursery

torch.set_num_threads(1)


def run_and_kill(folder: Path, at_step: int) -> None:
    """A process of its own, killed by SIGKILL right after it has reported a step."""
    process = nursery().read("tests.offset_models.training.tiny_run", str(folder), errors=False)
    with process.stdout:
        for line in process.stdout:
            if line.split() == [b"step", str(at_step).encode()]:
                process.kill()
                break
        process.stdout.read()
    assert process.wait() == -signal.SIGKILL


def test_a_run_that_was_killed_ends_with_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    run_and_kill(tmp_path / "killed", at_step=13)
    state = read_state(tmp_path / "killed")
    assert state is not None and 0 < state.step < KILLED.steps
    student, ended = trained(tmp_path / "killed", KILLED)
    whole, state = trained(tmp_path / "whole", KILLED)
    for name, tensor in tensors(whole).items():
        assert torch.equal(tensor, tensors(student)[name]), name
    assert ended == state
    assert RunFolder(tmp_path / "killed").metrics() == RunFolder(tmp_path / "whole").metrics()
    for name in (STATE, "best.safetensors"):
        killed, unkilled = load_file(tmp_path / "killed" / name), load_file(tmp_path / "whole" / name)
        assert all(torch.equal(killed[key], unkilled[key]) for key in unkilled)


def test_a_folder_with_another_run_is_refused(tmp_path: Path) -> None:
    trained(tmp_path, replace(SETTINGS, steps=2))
    with pytest.raises(BadRequest, match="other settings, data or base"):
        trained(tmp_path, replace(SETTINGS, steps=2, seed=1))


def test_a_state_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / STATE).write_bytes(b"nothing")
    with pytest.raises(BadRequest, match="not the state of a run"):
        trained(tmp_path)


def test_a_metrics_line_that_a_kill_cut_short_is_dropped(tmp_path: Path) -> None:
    trained(tmp_path, replace(SETTINGS, steps=2))
    with (tmp_path / METRICS).open("ab") as file:
        file.write(b'{"step": 3, "for')
    trained(tmp_path, replace(SETTINGS, steps=2))
    assert [line["step"] for line in RunFolder(tmp_path).metrics()] == [0, 1, 2, 2]
