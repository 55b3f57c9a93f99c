"""Where a run computes in bfloat16, and that the pair is still the black box before its first step."""

from dataclasses import replace

import pytest
import torch

from deltaserve.offset_models.training.learning.held_out import evaluate
from deltaserve.offset_models.training.learning.passes import precision
from deltaserve.offset_models.training.learning.passes.forward import pairs_of, positions, prepare
from deltaserve.offset_models.training.learning.passes.initial import InitialStates
from deltaserve.offset_models.training.learning.passes.precision import half, with_precision
from deltaserve.offset_models.training.learning.settings import TrainingSettings
from deltaserve.offset_models.training.learning.student import new_student
from tests.offset_models.training.tiny_run import REFERENCE, REFUSAL, RETAIN, SETTINGS, small_base

torch.set_num_threads(1)
CPU = torch.device("cpu")
HALF = replace(SETTINGS, precision="bfloat16")
HELD = [*REFERENCE, *RETAIN, *REFUSAL]  # of several lengths


@pytest.mark.parametrize(
    ("given", "hardware", "width", "halved"),
    [
        ({}, True, 896, True),
        ({}, False, 896, False),
        ({}, True, 128, False),
        ({"precision": "float32"}, True, 896, False),
        ({"full": True}, True, 896, False),
    ],
)
def test_a_wide_base_is_trained_in_bfloat16_where_the_cpu_multiplies_it(
    given: dict[str, object], hardware: bool, width: int, halved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "bfloat16_in_hardware", lambda: hardware)
    assert half(with_precision(TrainingSettings(**given), CPU, width), CPU) == halved


def test_what_stays_in_float32_has_the_settings_that_it_had() -> None:
    assert with_precision(TrainingSettings(), CPU, 128) == TrainingSettings()


@pytest.mark.parametrize("settings", [SETTINGS, HALF])
def test_an_evaluation_before_the_first_step_sees_one_and_the_same_model_twice(settings: TrainingSettings) -> None:
    student = new_student(small_base().to(torch.bfloat16 if settings is HALF else torch.float32), settings)
    initial = InitialStates()
    prepare(initial, student, HELD, settings)
    for pair in pairs_of(student, HELD, settings, initial):
        assert torch.equal(pair.unlearned, pair.initial)
    assert evaluate(student, HELD[:3], HELD[3:], settings, initial).retain_kl == pytest.approx(0.0, abs=1e-6)


def test_a_prepared_row_gives_the_positions_of_one_that_is_read_anew() -> None:
    student, initial = new_student(small_base(), SETTINGS), InitialStates()
    prepare(initial, student, HELD, SETTINGS)
    kept, anew = (positions(student, HELD[2:5], SETTINGS, initial=known) for known in (initial, None))
    torch.testing.assert_close(kept.log_p, anew.log_p)
    torch.testing.assert_close(kept.answer_log_q, anew.answer_log_q)


def test_what_is_prepared_does_not_go_through_the_initial_model_again() -> None:
    student, initial = new_student(small_base(), replace(SETTINGS, full=True)), InitialStates()
    seen: list[int] = []
    with student.initial() as o:
        o.base_model.register_forward_pre_hook(
            lambda _module, _args, kwargs: seen.append(len(kwargs["input_ids"])), with_kwargs=True
        )
    for _ in range(2):
        prepare(initial, student, HELD, SETTINGS)
        positions(student, HELD, SETTINGS, initial=initial)
    assert seen == [len(HELD)]
