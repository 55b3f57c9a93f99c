"""The loop on a tiny random pair: step 0 is the black box, training forgets, retains, and repeats itself exactly."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from deltaserve.offset_models.training.learning.batches import TrainingData
from deltaserve.offset_models.training.learning.distribution import imputed_logprobs
from deltaserve.offset_models.training.learning.passes.forward import ROWS_A_PASS, logprobs_at, positions
from deltaserve.offset_models.training.learning.run_folder import RunFolder, RunState
from deltaserve.offset_models.training.learning.settings import TrainingSettings
from deltaserve.offset_models.training.learning.student import Student, new_student, tensors
from tests.offset_models.training.tiny_run import REFUSAL, RETAIN, SETTINGS, small_base, trained

torch.set_num_threads(1)
BATCH = [*REFUSAL, *RETAIN]  # lengths 5, 5, 6, 3
OBJECTIVES = ("idk", "npo", "simnpo", "dpo", "undial", "contrast")


def weights(folder: Path, settings: TrainingSettings = SETTINGS, **more: Any) -> torch.Tensor:
    student, _ = trained(folder, settings, **more)
    return torch.cat([tensor.flatten() for tensor in tensors(student).values()])


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_step_zero_is_the_black_box(full: bool, checkpointing: bool) -> None:
    settings = replace(SETTINGS, full=full, checkpointing=checkpointing)
    batch = positions(new_student(small_base(), settings), BATCH, settings)
    torch.testing.assert_close(batch.log_q, batch.log_p)
    listed = batch.log_p[1].exp()
    assert listed[15].item() == pytest.approx(0.9, abs=0.02)
    assert batch.sequences.tolist() == [3, 0, 0, 1, 1, 2, 2, 2]  # as the batch has them, the shortest first
    assert batch.targets.tolist() == [25, 10, 11, 10, 11, 15, 16, 17]


def test_without_a_black_box_q_is_the_small_model_itself() -> None:
    student = new_student(small_base(), SETTINGS)
    next(iter(student.named().values())).data.normal_()
    batch = positions(student, [(sample, None) for sample, _ in BATCH], SETTINGS)
    torch.testing.assert_close(batch.log_q, batch.log_u)
    with pytest.raises(ValueError, match="all of its rows or for none"):
        positions(student, [REFUSAL[0], (RETAIN[0][0], None)], SETTINGS)


def test_padded_rows_and_missing_ids_never_get_probability() -> None:
    log_q = positions(new_student(small_base(), SETTINGS), REFUSAL, SETTINGS).log_q
    assert bool((log_q[:, [5, 30, 31]] == -torch.inf).all())


def test_padding_a_batch_does_not_change_a_row() -> None:
    student = new_student(small_base(), SETTINGS)
    alone = positions(student, RETAIN[1:], SETTINGS).log_p
    together = positions(student, RETAIN, SETTINGS).log_p[:1]
    torch.testing.assert_close(alone, together)


def test_training_puts_the_refusal_first_and_leaves_the_retained_answer(tmp_path: Path) -> None:
    reports: list[Mapping[str, float]] = []
    student, state = trained(tmp_path, report=lambda _, figures: reports.append(dict(figures)))
    steps = [figures for figures in reports if "forget" in figures]
    assert len(steps) == SETTINGS.steps == state.step
    assert steps[0]["retain"] == pytest.approx(0.0, abs=1e-5)
    assert steps[-1]["forget"] < 0.5 < 3 < steps[0]["forget"]
    log_q = positions(student, BATCH, SETTINGS).log_q
    assert log_q.argmax(1).tolist() == [25, 10, 11, 10, 11, 15, 16, 17]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_that_keeps_something_forgets_and_retains(objective: str, tmp_path: Path) -> None:
    settings = replace(SETTINGS, objective=objective, retain_weight=2.0, steps=20)
    if objective == "contrast":  # what it moves counts three times when it is served
        settings = replace(settings, retain_weight=6.0, steps=40, learning_rate=1e-2)
    _, state = trained(tmp_path, settings)
    assert state.before is not None and state.latest is not None and state.stopped is None
    assert (state.before.forget_said, state.before.retain_said) == (1.0, 1.0)
    assert state.latest.forget_said < 0.4 and state.latest.retain_said == 1.0
    assert state.latest.retain_kl < 0.2


def test_a_whole_copy_is_trained_and_the_base_is_left_alone(tmp_path: Path) -> None:
    settings = replace(SETTINGS, full=True, learning_rate=1e-2, steps=20)
    student, state = trained(tmp_path, settings)
    assert state.latest is not None and state.latest.forget_said < 0.4
    with student.initial() as initial:
        for one, other in zip(initial.parameters(), small_base().parameters(), strict=True):
            assert torch.equal(one, other)


def test_gradient_checkpointing_changes_nothing(tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=3)
    plain = weights(tmp_path / "plain", settings)
    torch.testing.assert_close(weights(tmp_path / "less", replace(settings, checkpointing=True)), plain)


def test_bfloat16_forward_passes_still_forget(tmp_path: Path) -> None:
    settings = replace(SETTINGS, precision="bfloat16", steps=30)
    student, state = trained(tmp_path, settings)
    assert state.latest is not None and state.latest.forget_said < 0.4
    assert {tensor.dtype for tensor in tensors(student).values()} == {torch.float32}


def test_accumulated_passes_are_one_larger_batch(tmp_path: Path) -> None:
    """The gradient is the same. Not weights: Adam makes a whole step out of what rounding leaves of a zero gradient."""
    npo = replace(SETTINGS, steps=1, retain_loss="nll", objective="npo", answer_noise=0.0)  # whose tokens are a batch's
    whole = replace(npo, forget_batch=2, retain_batch=2)
    parts = replace(whole, accumulate=2, forget_batch=1, retain_batch=1)
    even = TrainingData({"reference": REFUSAL}, REFUSAL)  # rows of one length: a mean of means is the mean
    names = ("forget", "retain", "gradient_norm")
    said: list[dict[str, float]] = []
    for name, settings in (("parts", parts), ("whole", whole)):
        student, _ = trained(
            tmp_path / name, settings, data=even, report=lambda _, figures: said.append({k: figures[k] for k in names})
        )
        said[-1] |= {
            name: tensor.grad.norm().item() for name, tensor in student.named().items() if tensor.grad is not None
        }
    assert len(said[0]) > len(names)
    assert said[0] == pytest.approx(said[1], rel=1e-5, abs=1e-9)


def test_a_batch_of_many_passes_is_the_same_as_its_parts() -> None:
    student = new_student(small_base(), SETTINGS)
    whole = positions(student, REFUSAL[:1] * (ROWS_A_PASS + 1), SETTINGS)
    alone = positions(student, REFUSAL[:1], SETTINGS)
    torch.testing.assert_close(whole.log_q, alone.log_q.repeat(ROWS_A_PASS + 1, 1))
    assert whole.sequences.tolist() == [row for row in range(ROWS_A_PASS + 1) for _ in range(2)]


def test_the_same_seed_gives_the_same_adapter_and_another_seed_another(tmp_path: Path) -> None:
    short = replace(SETTINGS, steps=3)
    first = weights(tmp_path / "a", short)
    assert torch.equal(first, weights(tmp_path / "b", short))
    assert not torch.equal(first, weights(tmp_path / "c", replace(short, seed=2)))


def test_the_pair_on_a_prompt_alone_gives_the_row_that_training_saw(tmp_path: Path) -> None:
    student, _ = trained(tmp_path, replace(SETTINGS, steps=6))
    sample, top = REFUSAL[0]
    assert top is not None
    prompt, end = torch.tensor([sample.prompt_ids]), torch.tensor([len(sample.prompt_ids) - 1])
    with torch.no_grad():
        with student.initial() as o:
            initial = logprobs_at(o, prompt, end, SETTINGS)
        unlearned = logprobs_at(student.unlearned, prompt, end, SETTINGS)
    seen = positions(student, REFUSAL[:1], SETTINGS)
    log_p = imputed_logprobs(torch.from_numpy(top.ids[:1]), torch.from_numpy(top.logprobs[:1]), initial)
    torch.testing.assert_close(log_p, seen.log_p[:1])
    q = torch.nan_to_num(log_p + unlearned - initial, nan=-torch.inf).log_softmax(1)
    torch.testing.assert_close(q, seen.log_q[:1])


def test_the_state_on_disk_knows_the_best_weights_as_soon_as_they_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    save, save_best = RunFolder.save, RunFolder.save_best

    def note_state(folder: RunFolder, state: RunState, student: Student, optimiser: torch.optim.Optimizer) -> None:
        written.append("state")
        save(folder, state, student, optimiser)

    def note_best(folder: RunFolder, student: Student) -> None:
        written.append("best")
        save_best(folder, student)

    monkeypatch.setattr(RunFolder, "save", note_state)
    monkeypatch.setattr(RunFolder, "save_best", note_best)
    _, state = trained(tmp_path, replace(SETTINGS, steps=12, eval_every=3, save_every=1000))
    assert state.best_step
    assert written.count("best") > 1
    later = written[1:]  # before the first step there is nothing to resume
    assert all(after == "state" for kind, after in pairwise(later) if kind == "best")
