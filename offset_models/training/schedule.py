"""What a time budget buys: steps, batches, evaluations, questions at the end, and whether another objective is tried.

Plain arithmetic on what was measured; `within.py` measures, keeps what was decided, and carries it out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Final

from deltaserve.offset_models.training.learning.held_out import Outcome
from deltaserve.offset_models.training.learning.settings import TrainingSettings

BATCHES: Final = ((16, 32), (8, 16), (4, 8))  # forget and retain rows of a step; the first that leaves enough steps
ENOUGH_STEPS: Final = 60  # more rows a step do not help before there are so many steps
LEAST_STEPS: Final = 20  # fewer teach nothing: the budget is passed over instead, and a sentence says so
MOST_STEPS: Final = 400
PASSES: Final = 30  # over the forget rows; what is not forgotten by then needs other rows
EVALUATIONS: Final = 4
EVALUATING: Final = 0.25  # the largest share of training's time that evaluations may take
RESERVED: Final = 0.2  # of the budget: choosing by whole answers, and the card
ANSWERS: Final = 11  # that one question of each kind takes in all: the black box's and, twice as slow, corrected ones
FEW_QUESTIONS, MOST_QUESTIONS = 8, 64
FORGOTTEN: Final = 0.95  # of what the black box says: less is too much left
STEP_PASSES: Final = 3  # forward and backward against a forward alone
DEARER: Final = 1.8  # a step of `dpo`, which reads two answers of every forget row, against one of `idk`
SECOND: Final = "dpo"
SECOND_OPTIONS: Final = {"rpo_alpha": 1.0}


@dataclass(frozen=True, slots=True)
class Speed:
    """Measured seconds."""

    row_s: float  # of a step, for each row in it
    evaluation_s: float
    setup_s: float  # loading, and o's pass over all rows


def speed_of(times: Sequence[float], rows: int, unread: int, held: float = 1.0) -> Speed:
    """From when a rehearsal began, ended its two steps of so many rows, and was over with its evaluation.

    `unread`: rows that only the whole run reads with o before its first step. `held`: an evaluation's rows in the whole
    run ÷ those of the rehearsal.
    """
    began, one, two, over = times
    step, evaluation = two - one, over - two
    reading = unread * step / rows / STEP_PASSES
    return Speed(step / rows, held * evaluation, max(0.0, one - began - step - evaluation) + reading)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A run that fits, and the sentence that says why."""

    settings: TrainingSettings
    why: str


def schedule(settings: TrainingSettings, speed: Speed, forget_rows: int, seconds: float) -> Schedule:
    """Steps, batches and evaluations for a run of so many seconds."""
    evaluations = max(1, min(EVALUATIONS, int(EVALUATING * seconds / max(speed.evaluation_s, 1e-9))))
    left = max(0.0, seconds - speed.setup_s - (1 + evaluations) * speed.evaluation_s)
    forget, retain, affordable = next(_batches_that_fit(speed, left))
    steps = max(LEAST_STEPS, min(affordable, max(ENOUGH_STEPS, ceil(PASSES * forget_rows / forget)), MOST_STEPS))
    every = ceil(steps / evaluations)
    fitting = replace(
        settings,
        steps=steps,
        forget_batch=forget,
        retain_batch=retain,
        accumulate=1,
        warm_up=min(settings.warm_up, steps // 6),
        eval_every=every,
        patience=2 if evaluations == EVALUATIONS else 0,
    )
    return Schedule(fitting, _why(fitting, speed, affordable, seconds))


def questions_for(minutes: float, answer_s: float) -> int:
    """How many questions of each kind are asked at the end."""
    return max(FEW_QUESTIONS, min(MOST_QUESTIONS, int(RESERVED * 60 * minutes / (ANSWERS * answer_s))))


def second_try(first: TrainingSettings, speed: Speed, reached: Outcome, forget_rows: int, seconds: float) -> Schedule:
    """`first` itself with the reason where nothing else is worth trying; else the settings of another objective."""
    said = f"{first.objective} lets go of {reached.forgotten:.2f} and keeps {reached.kept:.2f} on the held-out rows"
    if reached.forgotten >= FORGOTTEN:
        return Schedule(first, f"{said}: enough, so no other objective was tried.")
    dearer = replace(speed, row_s=DEARER * speed.row_s)
    another = schedule(replace(first, objective=SECOND, options=SECOND_OPTIONS), dearer, forget_rows, seconds)
    if another.settings.steps * _step_s(another.settings, dearer) + dearer.setup_s > seconds:
        return Schedule(first, f"{said}; the time that is left is too short for another objective.")
    return Schedule(another.settings, f"{said}, which leaves too much: {SECOND} was tried too. {another.why}")


def _batches_that_fit(speed: Speed, seconds: float) -> Iterator[tuple[int, int, int]]:
    """Forget rows, retain rows, affordable steps; the last one in any case."""
    for forget, retain in BATCHES:
        affordable = int(seconds / (speed.row_s * (forget + retain)))
        if affordable >= ENOUGH_STEPS or (forget, retain) == BATCHES[-1]:
            yield forget, retain, affordable


def _step_s(settings: TrainingSettings, speed: Speed) -> float:
    return speed.row_s * (settings.forget_batch + settings.retain_batch)


def _why(settings: TrainingSettings, speed: Speed, affordable: int, seconds: float) -> str:
    step = f"a step of {settings.forget_batch} + {settings.retain_batch} rows takes {_step_s(settings, speed):.1f} s"
    said = (
        f"{settings.objective}: {step}, an evaluation {speed.evaluation_s:.0f} s; {settings.steps} steps, evaluated "
        f"every {settings.eval_every}"
    )
    if affordable < settings.steps:
        return f"{said}, because fewer teach nothing: this takes longer than the {seconds / 60:.1f} minutes for it."
    return f"{said}, fit into the {seconds / 60:.1f} minutes for training."
