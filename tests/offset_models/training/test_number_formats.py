"""A base in bfloat16 with a float32 adapter, as it is trained on a GPU; the same code on a CPU."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deltaserve.offset_models.training.learning.held_out import share_said_before
from deltaserve.offset_models.training.learning.passes.forward import positions
from deltaserve.offset_models.training.learning.passes.initial import InitialStates
from deltaserve.offset_models.training.learning.run_folder import RunFolder
from deltaserve.offset_models.training.learning.settings import TrainingSettings
from deltaserve.offset_models.training.learning.student import new_student, tensors
from deltaserve.offset_models.training.stages import load_base
from tests.offset_models.training.tiny_run import REFUSAL, RETAIN, SETTINGS, small_base, trained

HALF = replace(SETTINGS, precision="bfloat16")
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("settings", "dtype"),
    [
        (TrainingSettings(), torch.float32),
        (TrainingSettings(precision="bfloat16"), torch.bfloat16),
        (TrainingSettings(precision="bfloat16", full=True), torch.float32),
    ],
)
def test_a_base_is_loaded_in_what_it_computes_in(tmp_path: Path, settings: TrainingSettings, dtype: torch.dtype):
    small_base().save_pretrained(tmp_path)
    assert load_base(tmp_path, CPU, settings).dtype == dtype


def test_step_zero_is_the_black_box():
    student = new_student(small_base().to(torch.bfloat16), HALF)
    batch = positions(student, [*REFUSAL, *RETAIN], HALF, initial=InitialStates())
    assert torch.equal(batch.log_q.argmax(1), batch.log_p.argmax(1))
    torch.testing.assert_close(batch.log_q, batch.log_p)


def test_it_forgets_and_the_adapter_stays_in_float32(tmp_path: Path):
    student, state = trained(tmp_path, HALF, dtype=torch.bfloat16)
    assert state.latest is not None and state.latest.forget_said < 0.4
    assert {tensor.dtype for tensor in tensors(student).values()} == {torch.float32}
    assert {parameter.dtype for parameter in student.unlearned.parameters()} == {torch.bfloat16}


def test_a_run_that_stopped_ends_with_the_weights_of_one_that_did_not(tmp_path: Path):
    whole, _ = trained(tmp_path / "whole", replace(HALF, steps=8), dtype=torch.bfloat16)

    def stops(step: int, _figures: object) -> None:
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", replace(HALF, steps=8), report=stops, dtype=torch.bfloat16)
    student, state = trained(tmp_path / "run", replace(HALF, steps=8), dtype=torch.bfloat16)
    assert state.step == 8 and RunFolder(tmp_path / "run").metrics()[-1]["step"] == 8
    for name, tensor in tensors(student).items():
        assert torch.equal(tensor, tensors(whole)[name])


def test_an_adapter_merges_into_a_base_in_bfloat16(tmp_path: Path):
    student, _ = trained(tmp_path, replace(HALF, steps=6), dtype=torch.bfloat16)
    ids = torch.tensor([[1, 2, 8]])
    with torch.no_grad():
        adapted = student.unlearned(input_ids=ids).logits
        student.lora.merge()
        merged = student.unlearned(input_ids=ids).logits
    assert merged.dtype == torch.bfloat16
    torch.testing.assert_close(merged.float(), adapted.float(), rtol=0.1, atol=1.0)


def test_shares_said_before_a_wrong_token_are_those_of_each_answer_alone():
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        lengths = torch.randint(1, 6, (4,), generator=generator).tolist()
        order = torch.randperm(4, generator=generator).tolist()  # positions come ordered by length, not by number
        sequences = torch.tensor([number for number in order for _ in range(lengths[number])])
        wrong = torch.rand(len(sequences), generator=generator) < 0.3
        alone = [(wrong[sequences == n].cumsum(0) == 0).float().mean() for n in range(4)]
        torch.testing.assert_close(share_said_before(wrong, sequences), torch.stack(alone))
