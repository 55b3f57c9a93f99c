"""An erasure request within a time budget: what is not said is decided from what is measured, and written down.

A few steps that are thrown away tell how long one takes. After the first run its held-out figures tell whether another
objective is worth the time that is left. A request that was killed goes on with what it had decided.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

import orjson

from deltaserve.errors import BadRequest
from deltaserve.offset_models.files.digests import digest_of
from deltaserve.offset_models.files.safe_files import write_atomically
from deltaserve.offset_models.progress.progress import Stages
from deltaserve.offset_models.training.collecting.job import Forecast
from deltaserve.offset_models.training.forget import (
    Announce,
    CollectedRows,
    ForgetResult,
    Plan,
    Run,
    collected_rows,
    finished,
    trained_on,
)
from deltaserve.offset_models.training.learning.batches import spread
from deltaserve.offset_models.training.learning.calibration import best
from deltaserve.offset_models.training.learning.fabric import Fabric
from deltaserve.offset_models.training.learning.held_out import Outcome, balance, outcome
from deltaserve.offset_models.training.learning.reporting import Report
from deltaserve.offset_models.training.learning.settings import TrainingSettings
from deltaserve.offset_models.training.schedule import (
    BATCHES,
    RESERVED,
    SECOND,
    Speed,
    questions_for,
    schedule,
    second_try,
    speed_of,
)
from deltaserve.offset_models.training.stages import rehearse

DECIDED: Final = "decided.json"
FIRST: Final = ("idk", "idk_generic")  # the objectives that are taken where none is named
REHEARSED: Final = 2  # steps: the first one also pays for what is new
HELD: Final = 12  # held-out rows of each side in the rehearsal's evaluations
BETTER: Final = 0.01  # of balance on held-out rows, that another objective must have more than the first
LATE: Final = 1.25  # of the time for training: a machine that became slower stops there
ANSWER_S: Final = 2.0  # of the black box, where collecting did not tell
_RUN: Final = ("steps", "forget_batch", "retain_batch", "accumulate", "warm_up", "eval_every", "patience")
Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Decided:
    """What a request has decided so far, as plain JSON types."""

    about: str  # digest of data, base, settings and budget
    speed: dict[str, float]
    questions: int
    runs: list[dict[str, Any]] = field(default_factory=list)  # settings of the runs, the first one first
    over: bool = False  # whether no run will follow those
    why: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path, about: str) -> Self | None:
        """None where nothing was decided, or about something else."""
        if not (folder / DECIDED).exists():
            return None
        value = orjson.loads((folder / DECIDED).read_bytes())
        return cls(**value) if value.get("about") == about else None

    def write(self, folder: Path) -> Self:
        write_atomically(folder / DECIDED, orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2) + b"\n")
        return self

    def with_run(self, settings: TrainingSettings, why: str, *, over: bool = False) -> "Decided":
        run = {name: getattr(settings, name) for name in (*_RUN, "objective")} | {"options": dict(settings.options)}
        return replace(self, runs=[*self.runs, run], why=[*self.why, why], over=over)


def forget_within(
    plan: Plan,
    progress: Stages,
    announce: Announce,
    report: Report = lambda _step, _figures: None,
    say: Say = lambda _sentence: None,
) -> ForgetResult:
    """All stages in about `plan.minutes`; each decision is told to `say`. Blocking. Raises DeltaserveError.

    Steps, batches, evaluations and the numbers of questions of the plan's settings are replaced.
    """
    if plan.minutes is None or not plan.minutes > 0:
        raise BadRequest("Say how many minutes the request may take: a number above 0.")
    clock = _Clock(60 * plan.minutes)
    rows = collected_rows(plan, progress, clock.hearing(announce))
    clock.collected()
    request = _Request(plan, rows, clock, progress, report, say)
    plan, run = request.best_run()
    return finished(plan, rows, run, progress)


class _Clock:
    """How much of the budget is left, and what an answer of the black box takes."""

    def __init__(self, budget_s: float) -> None:
        self._budget_s, self._began = budget_s, time.monotonic()
        self._generated = 0
        self.answer_s = ANSWER_S

    def hearing(self, announce: Announce) -> Announce:
        def heard(forecast: Forecast) -> None:
            self._generated += forecast.cost.generated_tokens
            announce(forecast)

        return heard

    def collected(self) -> None:
        """An answer of 20 tokens at the pace of what was collected."""
        if self._generated:
            self.answer_s = max(0.01, 20 * (time.monotonic() - self._began) / self._generated)

    @property
    def for_training_s(self) -> float:
        """What is left, but for what the end is to have."""
        return max(0.0, (1 - RESERVED) * self._budget_s - (time.monotonic() - self._began))


@dataclass(frozen=True, slots=True)
class _Request:
    """The runs of one request."""

    plan: Plan
    rows: CollectedRows
    clock: _Clock
    progress: Stages
    report: Report
    say: Say

    def best_run(self) -> tuple[Plan, Run]:
        """The better of the runs by what held-out rows say, and the plan as it was carried out."""
        decided = self._decided()
        first = self._run(decided, 0)
        if not decided.over:
            decided = self._another(decided, first[1])
        if len(decided.runs) == 1:
            return first
        second = self._run(decided, 1)
        chosen = second if self._merit(second[1]) >= self._merit(first[1]) + BETTER else first
        self.say(f"{chosen[0].settings.objective} was kept: it is the better one on the held-out rows.")
        return chosen

    def _decided(self) -> Decided:
        """Read, or measured and written."""
        plan, data = self.plan, self.rows.data(self.plan.settings)
        about = digest_of([plan.settings.identity(), data.digest, plan.base.name, plan.minutes])
        decided = Decided.read(plan.work, about)
        if decided is None:
            speed = self._measured()
            forget = len(next(iter(data.forget.values())))
            first = schedule(plan.settings, speed, forget, self.clock.for_training_s)
            questions = questions_for(plan.minutes or 0.0, self.clock.answer_s)
            decided = Decided(about, asdict(speed), questions).with_run(first.settings, first.why)
            decided.write(plan.work)
        for sentence in decided.why:
            self.say(sentence)
        return decided

    def _measured(self) -> Speed:
        forget, retain = BATCHES[1]
        settings = replace(self.plan.settings, steps=REHEARSED, forget_batch=forget, retain_batch=retain, accumulate=1)
        data = self.rows.data(settings)
        few = replace(
            data,
            forget={answer: rows[: REHEARSED * forget] for answer, rows in data.forget.items()},
            retain=data.retain[: REHEARSED * retain],
            held_forget=spread(data.held_forget, HELD),
            held_retain=spread(data.held_retain, HELD),
        )
        with self.progress.stage("a few steps, to see how long they take", 1) as advance:
            times = rehearse(self.plan.base, few, settings, Fabric.find(self.plan.device), self.rows.reading)
            advance()
        held, rehearsed = (len(each.held_forget) + len(each.held_retain) for each in (data.evaluated, few))
        unread = len(data.retain) - len(few.retain) + self._forget_rows + held - rehearsed
        return speed_of(times, forget + retain, unread, held / max(rehearsed, 1))

    def _another(self, decided: Decided, first: Run) -> Decided:
        """Whether a second run is made, decided once."""
        why = self._why_alone(first)
        if why is None:
            settings, speed = self._settings(decided, 0), Speed(**decided.speed)
            found = second_try(settings, speed, reached(first), self._forget_rows, self.clock.for_training_s)
            if found.settings.objective != settings.objective:
                self.say(found.why)
                return decided.with_run(found.settings, found.why, over=True).write(self.plan.work)
            why = found.why
        self.say(why)
        return replace(decided, over=True, why=[*decided.why, why]).write(self.plan.work)

    def _why_alone(self, first: Run) -> str | None:
        """Why no other objective can be tried; None where one can."""
        name = self.plan.settings.objective
        if name not in FIRST:
            return f"{name} was named, so no other objective was tried."
        if not first.data.held_out:
            return "No other objective was tried: without held-out rows nothing tells which one is better."
        if not self.rows.collected.forget:
            return f"No other objective was tried: the forget rows' own answers, which {SECOND} needs, are not there."
        return None

    @property
    def _forget_rows(self) -> int:
        return len(self.rows.collected.forget or self.rows.collected.refused)

    def _run(self, decided: Decided, number: int) -> tuple[Plan, Run]:
        asked = min(decided.questions, self.plan.questions), min(decided.questions, self.plan.choosing)
        plan = replace(
            self.plan, settings=self._settings(decided, number), questions=asked[0], choosing=asked[1], minutes=None
        )
        late = time.monotonic() + LATE * max(self.clock.for_training_s, 1.0)
        over = lambda: time.monotonic() > late  # noqa: E731
        return plan, trained_on(plan, self.rows, self.progress, self.report, over)

    def _settings(self, decided: Decided, number: int) -> TrainingSettings:
        return replace(self.plan.settings, **decided.runs[number])

    def _merit(self, run: Run) -> float:
        return balance(reached(run), self.plan.settings.keep)


def reached(run: Run) -> Outcome:
    """What came of a run on the held-out rows, as it would be served; nothing where it kept nothing."""
    trained = run.trained
    if not trained.kept_step or trained.state.before is None or trained.state.best is None:
        return Outcome(0.0, 1.0)
    if trained.outcomes:
        return best(trained.outcomes, trained.settings.keep)[1]
    return outcome(trained.state.before, trained.state.best)
