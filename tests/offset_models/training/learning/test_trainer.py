"""The loop on a tiny random pair: step 0 is the black box, training forgets, retains, and repeats itself exactly."""

import math
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from deltaserve.errors import BadRequest
from deltaserve.offset_models.training.learning.distribution import imputed_logprobs
from deltaserve.offset_models.training.learning.held_out import evaluate
from deltaserve.offset_models.training.learning.passes import ROWS_A_PASS, Scored, logprobs_at, positions
from deltaserve.offset_models.training.learning.run_folder import METRICS, STATE, RunFolder, RunState, read_state
from deltaserve.offset_models.training.learning.settings import TrainingSettings
from deltaserve.offset_models.training.learning.student import Student, new_student, tensors
from deltaserve.offset_models.training.learning.trainer import TrainingFailed
from deltaserve.offset_models.training.rows.batches import Draw, TrainingData
from tests.offset_models.training.tiny_run import (
    DATA,
    KILLED,
    REFERENCE,
    REFUSAL,
    RETAIN,
    SETTINGS,
    small_base,
    trained,
)

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
    settings = replace(SETTINGS, objective=objective, retain_weight=2.0, steps=30)
    if objective == "contrast":  # what it moves counts three times when it is served
        settings = replace(settings, retain_weight=6.0, steps=60, learning_rate=1e-2)
    _, state = trained(tmp_path, settings)
    assert state.before is not None and state.latest is not None and state.stopped is None
    assert (state.before.forget_said, state.before.retain_said) == (1.0, 1.0)
    assert state.latest.forget_said < 0.4 and state.latest.retain_said == 1.0
    assert state.latest.retain_kl < 0.2


def test_a_whole_copy_is_trained_and_the_base_is_left_alone(tmp_path: Path) -> None:
    settings = replace(SETTINGS, full=True, learning_rate=1e-2, steps=30)
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
    settings = replace(SETTINGS, precision="bfloat16")
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
    student, _ = trained(tmp_path)
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


# Ends


def test_a_collapsing_objective_is_stopped_with_a_sentence_and_its_weights_are_not_the_best(tmp_path: Path) -> None:
    settings = replace(SETTINGS, objective="grad_ascent", steps=200, eval_every=2, max_retain_kl=0.5)
    _, state = trained(tmp_path, settings)
    assert state.stopped is not None and "KL to the black box on retain rows" in state.stopped
    assert state.step < 200 and state.best_step is not None and state.best_step < state.step
    assert min(state.retain_kl) > 0.5
    _, resumed = trained(tmp_path, settings)
    assert resumed == state  # a stopped run stays stopped


def test_a_run_without_progress_ends_when_patience_does(tmp_path: Path) -> None:
    settings = replace(SETTINGS, eval_every=1, patience=3, learning_rate=1e-9)
    _, state = trained(tmp_path, settings)
    assert (state.step, state.best_step) == (3, 0)
    assert state.stopped == "No better trade-off in 3 evaluations."


def test_the_best_weights_are_kept_beside_the_last_ones(tmp_path: Path) -> None:
    settings = replace(SETTINGS, eval_every=1, steps=30, trade_off="retain", objective="grad_ascent", max_retain_kl=99)
    student, state = trained(tmp_path, settings)
    assert state.best_step is not None and 0 < state.best_step < 30  # of those that keep all, what forgets most
    RunFolder(tmp_path).load_best(student)
    kept = evaluate(student, REFERENCE, RETAIN, settings)
    assert state.latest is not None
    assert kept.retain_said == 1.0 > state.latest.retain_said


def test_a_loss_that_is_not_a_number_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match="lower learning rate"):
        trained(tmp_path, replace(SETTINGS, learning_rate=1e30, clip=1e30, steps=9))


# Resuming


def run_and_kill(folder: Path, at_step: int) -> None:
    """A process of its own, killed by SIGKILL right after it has reported a step."""
    command = [sys.executable, "-m", "tests.offset_models.training.tiny_run", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.split() == ["step", str(at_step)]:
                process.send_signal(signal.SIGKILL)
                break
        process.stdout.read()
    assert process.returncode == -signal.SIGKILL


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


# Parts


def test_every_row_is_drawn_once_before_any_comes_again() -> None:
    draw = Draw(5, 2, "seed")
    drawn = [row for number in range(5) for row in draw.batch(number)]
    assert sorted(drawn[:5]) == sorted(drawn[5:]) == list(range(5))
    assert drawn[:5] != drawn[5:]
    assert Draw(5, 2, "seed").batch(3) == drawn[6:8]  # whatever was drawn before


def test_what_is_said_ends_where_the_greedy_answer_departs() -> None:
    student = new_student(small_base(), SETTINGS)
    wrong: Scored = (REFERENCE[0][0], RETAIN[0][1])
    late = type(wrong[0])((1, 2, 8), (15, 16, 9))
    figures = evaluate(student, [(late, RETAIN[0][1])], RETAIN, SETTINGS)
    assert figures.forget_said == pytest.approx(2 / 3) and figures.retain_said == 1.0
    assert figures.retain_likelihood == pytest.approx(0.9, abs=0.02) and math.isclose(
        figures.retain_kl, 0, abs_tol=1e-6
    )


def test_training_without_rows_is_refused() -> None:
    for forget, retain in (({"reference": []}, RETAIN), ({}, RETAIN), (DATA.forget, [])):
        with pytest.raises(BadRequest, match="forget rows and retain rows"):
            TrainingData(forget, retain)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"objective": "wish"}, "there are: grad_ascent"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0"),
        ({"retain_loss": "l2"}, "retain_loss is one of kl, nll, none"),
        ({"patience": 2, "eval_every": 0}, "set eval_every too"),
        ({"retain_weight": -1.0}, "retain_weight"),
        ({"trade_off": "both"}, "trade_off is one of"),
        ({"answer_noise": 0.6}, "answer_noise is a share: a number from 0 to 0.5"),
        ({"answer_noise": float("nan")}, "answer_noise is a share"),
    ],
)
def test_settings_that_cannot_be_trained_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        replace(SETTINGS, **change)


def test_an_objective_that_collapses_soon_is_judged_more_often_unless_the_settings_say_how_often(
    tmp_path: Path,
) -> None:
    judged: list[int] = []
    trained(
        tmp_path,
        replace(SETTINGS, objective="grad_ascent", steps=12, max_retain_kl=99),
        report=lambda step, figures: judged.append(step) if "held_out/retain_kl" in figures else None,
    )
    assert judged == [0, 5, 10, 12]
    assert replace(SETTINGS, objective="idk").interval == 50
    assert replace(SETTINGS, objective="grad_ascent", eval_every=0).interval == 0
