"""What o makes of a row is computed once, and changes nothing."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from deltaserve.offset_models.training.learning.passes.forward import positions
from deltaserve.offset_models.training.learning.passes.initial import InitialStates
from deltaserve.offset_models.training.learning.passes.reading import OwnTokens
from deltaserve.offset_models.training.learning.student import Student, new_student
from tests.offset_models.training.tiny_run import REFERENCE, REFUSAL, RETAIN, SETTINGS, small_base

torch.set_num_threads(1)
BATCH = [*REFUSAL, *RETAIN]


def moved(**more: Any) -> Student:
    """A pair whose members differ."""
    student = new_student(small_base(), replace(SETTINGS, **more))
    generator = torch.Generator().manual_seed(1)
    for parameter in student.named().values():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return student


def calls_of_base(student: Student) -> list[int]:
    """Grows by the batch's size with every forward of o or u."""
    seen: list[int] = []
    with student.initial() as initial:
        initial.base_model.register_forward_pre_hook(
            lambda _module, _args, kwargs: seen.append(len(kwargs["input_ids"])), with_kwargs=True
        )
    return seen


@pytest.mark.parametrize("full", [False, True])
def test_positions_are_the_same_with_kept_states(full: bool) -> None:
    student, initial = moved(full=full), InitialStates()
    plain = positions(student, BATCH, SETTINGS)
    for _ in range(2):
        kept = positions(student, BATCH, SETTINGS, initial=initial)
        for name in ("log_p", "log_q", "log_u"):
            torch.testing.assert_close(getattr(kept, name), getattr(plain, name))
    assert not torch.equal(plain.log_q, plain.log_p)


def test_a_row_goes_through_the_initial_model_once() -> None:
    student, initial = moved(full=True), InitialStates()
    seen = calls_of_base(student)
    for _ in range(3):
        positions(student, BATCH, SETTINGS, initial=initial)
    assert seen == [1] * len(BATCH)


def test_in_bfloat16_step_zero_is_the_black_box() -> None:
    settings = replace(SETTINGS, precision="bfloat16")
    batch = positions(new_student(small_base(), settings), BATCH, settings, initial=InitialStates())
    torch.testing.assert_close(batch.log_q, batch.log_p)


def test_states_do_not_depend_on_what_a_row_came_with() -> None:
    student = moved()
    together, alone = InitialStates(), InitialStates()
    positions(student, [*REFERENCE, *RETAIN], SETTINGS, initial=together)
    with student.initial() as initial:
        for row in RETAIN:
            found = [states.of(initial, row, OwnTokens(), SETTINGS) for states in (together, alone)]
            assert torch.equal(*found)


def test_what_does_not_fit_is_computed_again() -> None:
    student, initial = moved(full=True), InitialStates(most_bytes=0)
    seen = calls_of_base(student)
    first, second = (positions(student, RETAIN, SETTINGS, initial=initial) for _ in range(2))
    assert torch.equal(first.log_q, second.log_q)
    assert seen == [1] * 2 * len(RETAIN)
