"""Several processes share a batch: the weights are those of one process that took the same rows in turn."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from deltaserve.errors import BadRequest
from deltaserve.offset_models.training.learning.fabric import Fabric
from deltaserve.offset_models.training.learning.student import tensors
from tests.offset_models.training.tiny_run import KILLED, trained


def test_one_process_is_the_main_one_and_averages_nothing() -> None:
    fabric = Fabric.find("cpu")
    assert fabric.main and fabric.world == 1 and fabric.mean({"loss": 2.0}) == {"loss": 2.0}
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    fabric.average([weight])
    assert weight.grad.tolist() == [1, 1]


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadRequest, match="no device 'nowhere'"):
        Fabric.find("nowhere")


@pytest.mark.slow
def test_two_processes_train_as_one_that_accumulates_two_passes(tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    command = [*launch, "-m", "tests.offset_models.training.tiny_run", str(tmp_path / "two")]
    subprocess.run(command, check=True, timeout=540, capture_output=True)
    together = load_file(tmp_path / "two" / "state.safetensors")
    student, _ = trained(tmp_path / "one", KILLED)
    for name, tensor in tensors(student).items():
        torch.testing.assert_close(together[f"weights/{name}"], tensor, rtol=1e-3, atol=1e-4)
