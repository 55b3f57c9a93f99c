"""The training loop of an offset: u starts as o, the black box is a cache of top-k, every loss is on log q."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Final

import torch

from deltaserve.errors import DeltaserveError
from deltaserve.offset_models.files.digests import digest_of
from deltaserve.offset_models.training.learning.batches import Shuffle, TrainingData, noised
from deltaserve.offset_models.training.learning.calibration import best, outcomes_of, to_be_chosen
from deltaserve.offset_models.training.learning.distribution import Positions, without_ends
from deltaserve.offset_models.training.learning.fabric import Fabric
from deltaserve.offset_models.training.learning.held_out import (
    Figures,
    Merit,
    Outcome,
    evaluate,
    likelihood,
    merit,
    outcome,
)
from deltaserve.offset_models.training.learning.objective import Answer
from deltaserve.offset_models.training.learning.objectives import RETAIN_TERMS, ending, kl
from deltaserve.offset_models.training.learning.passes.forward import positions, prepare
from deltaserve.offset_models.training.learning.passes.initial import InitialStates
from deltaserve.offset_models.training.learning.passes.pair import PairPositions
from deltaserve.offset_models.training.learning.reporting import Report
from deltaserve.offset_models.training.learning.run_folder import RunFolder, RunState, judged
from deltaserve.offset_models.training.learning.settings import TrainingSettings
from deltaserve.offset_models.training.learning.student import Student
from deltaserve.offset_models.training.rows.scored import Scored

LEAST_RATE: Final = 0.05  # of the peak, at the last step
COLLAPSE_STEPS: Final = 5  # a retain KL above the bound over this many steps is no spike


class TrainingFailed(DeltaserveError):
    """A loss that is not a number; the run's last saved state stays."""


@dataclass(frozen=True, slots=True)
class Trainer:
    """One run. `report` hears of every step and of every evaluation."""

    student: Student
    data: TrainingData
    settings: TrainingSettings
    folder: RunFolder
    fabric: Fabric
    report: Report = lambda _step, _figures: None
    initial: InitialStates = field(default_factory=InitialStates)
    out_of_time: Callable[[], bool] = lambda: False

    def run(self, base_digest: str = "") -> RunState:
        """Train to the end, from wherever the folder's state is; the student ends with the last step's weights."""
        optimiser = new_optimiser(self.student, self.settings)
        state = self.folder.resume(self.identity(base_digest), self.student, optimiser, writes=self.fabric.main)
        self.fabric.wait()  # nobody writes while somebody reads
        self._prepare()
        if state.before is None:
            state = self._judge(state)
        while state.step < self.settings.steps and state.stopped is None:
            set_rate(optimiser, state.step, self.settings)
            started = time.monotonic()
            figures = self._step(state.step, optimiser)
            state = self._advance(replace(state, seconds=state.seconds + time.monotonic() - started), figures)
            if self._evaluation_due(state):
                state = self._judge(state)
            elif state.stopped is None and self.out_of_time():
                state = replace(self._judge(state), stopped=f"The time for training was over at step {state.step}.")
            if self._save_due(state):
                self._save(state, optimiser)
        return state

    def _prepare(self) -> None:
        """o's states along the rows that will be read: once, a few rows at a time, whatever step comes first."""
        seen = self.data.evaluated
        for rows in (seen.held_forget, seen.held_retain, *self._read_whole()):
            prepare(self.initial, self.student, rows, self.settings)

    def _read_whole(self) -> Iterator[list[Scored]]:
        """Training rows that steps read as they are, like lengths together."""
        sides = [rows for answer, rows in self.data.forget.items() if answer == "refusal" or not self.settings.noise]
        for rows in (*sides, self.data.retain):
            batch = self.settings.retain_batch if rows is self.data.retain else self.settings.forget_batch
            most = self.settings.steps * self.settings.accumulate * batch * self.fabric.world
            if most >= len(rows):  # else most rows would be read for nothing
                yield sorted(rows, key=lambda row: len(row[0].ids))

    def identity(self, base_digest: str) -> str:
        """sha256 (hex) of everything that decides the weights."""
        return digest_of([self.settings.identity(), self.data.digest, base_digest, self.fabric.world])

    def _step(self, step: int, optimiser: torch.optim.Optimizer) -> dict[str, float]:
        """One update; returns the figures of its batches."""
        optimiser.zero_grad()
        passes = [self._backward(step * self.settings.accumulate + i) for i in range(self.settings.accumulate)]
        figures = self.fabric.mean({name: sum(each[name] for each in passes) / len(passes) for name in passes[0]})
        if not all(map(math.isfinite, figures.values())):
            raise TrainingFailed(f"The loss is not a number at step {step + 1}; try a lower learning rate.")
        parameters = list(self.student.named().values())
        self.fabric.average(parameters)
        figures["gradient_norm"] = torch.nn.utils.clip_grad_norm_(parameters, self.settings.clip).item()
        figures["learning_rate"] = optimiser.param_groups[0]["lr"]
        optimiser.step()
        return figures

    def _backward(self, number: int) -> dict[str, float]:
        """Gradients of one pass over a forget batch and a retain batch, one after the other to save memory."""
        share = 1 / self.settings.accumulate
        forget, figures = self._forget_term(number)
        (share * forget).backward()  # type: ignore[no-untyped-call, unused-ignore]
        retain, more = self._retain_term(number)
        if retain.requires_grad:
            (share * self.settings.weight * retain).backward()  # type: ignore[no-untyped-call, unused-ignore]
        return {"forget": forget.item(), "retain": retain.item(), **figures, **more}

    def _forget_term(self, number: int) -> tuple[torch.Tensor, dict[str, float]]:
        rows = self._drawn("forget", len(next(iter(self.data.forget.values()))), self.settings.forget_batch, number)
        read = {answer: self._forget_positions(answer, rows, number) for answer in self.settings.chosen.answers}
        batches: dict[Answer, Positions] = {**read}
        figures = {"forget_likelihood": _likely(read[self.settings.chosen.answers[0]])}
        if self.settings.end_id is None or not self.settings.ending:
            return self.settings.chosen.forget_loss(batches, self.settings.options), figures
        batches["reference"], after_misread = without_ends(batches["reference"], self.settings.end_id)
        end = ending(after_misread, self.settings.end_id)
        loss = self.settings.chosen.forget_loss(batches, self.settings.options) + self.settings.ending * end
        return loss, {**figures, "ending": end.item()}

    def _retain_term(self, number: int) -> tuple[torch.Tensor, dict[str, float]]:
        """The term, zero where there is none; the KL to the black box is measured in any case."""
        rows = self._drawn("retain", len(self.data.retain), self.settings.retain_batch, number)
        with torch.set_grad_enabled(self.settings.retain != "none" and self.settings.weight > 0):
            batch = self._positions([self.data.retain[row] for row in rows])
            term = RETAIN_TERMS.get(self.settings.retain)
            loss = torch.zeros((), device=batch.targets.device) if term is None else term(batch)
        with torch.no_grad():
            nats = kl(batch).item()
            return loss, {"retain_likelihood": _likely(batch), "retain_kl": nats}

    def _forget_positions(self, answer: Answer, rows: Sequence[int], number: int) -> PairPositions:
        """Reference answers as they are read. For broken ones o is run each time: no two are the same."""
        chosen = [self._answered(answer, row) for row in rows]
        if answer == "refusal" or self.settings.noise == 0:
            return self._positions(chosen)
        seed = f"{self.settings.seed}/noise/{number * self.fabric.world + self.fabric.rank}"
        return positions(self.student, noised(chosen, self.settings.noise, seed), self.settings)

    def _positions(self, rows: Sequence[Scored]) -> PairPositions:
        return positions(self.student, rows, self.settings, initial=self.initial)

    def _drawn(self, side: str, rows: int, batch: int, number: int) -> list[int]:
        """This process's share of a batch: `batch` rows."""
        draw = Shuffle(rows, batch, f"{self.settings.seed}/{side}")
        return draw.batch(number * self.fabric.world + self.fabric.rank)

    def _answered(self, answer: Answer, row: int) -> Scored:
        return self.data.forget[answer][row]

    def _advance(self, state: RunState, figures: dict[str, float]) -> RunState:
        """One step further; over the bound on retain KL, stopped."""
        step, recent = state.step + 1, (*state.retain_kl, figures["retain_kl"])[-COLLAPSE_STEPS:]
        self._tell(step, figures)
        bound = self.settings.max_retain_kl
        collapsed = len(recent) == COLLAPSE_STEPS and min(recent) > bound
        return replace(state, step=step, retain_kl=recent, stopped=_collapse(step, bound) if collapsed else None)

    def _judge(self, state: RunState) -> RunState:
        """Evaluate; remember the weights if they are the best so far; stop when patience is over."""
        if not self.data.held_forget or not self.data.held_retain:
            return state
        seen = self.data.evaluated
        figures = evaluate(self.student, seen.held_forget, seen.held_retain, self.settings, self.initial)
        before = state.before or figures
        self._tell(state.step, {f"held_out/{name}": value for name, value in asdict(figures).items()})
        reached = Outcome(**self.fabric.mean(asdict(self._outcome(before, figures))))  # all processes judge alike
        worth = merit(self.settings.trade_off, reached, self.settings.keep)
        return self._remember(replace(state, before=before), figures, worth)

    def _outcome(self, before: Figures, now: Figures) -> Outcome:
        """As it would be served: with the best strength and gate where these are chosen at the end."""
        if not to_be_chosen(self.data, self.settings):
            return outcome(before, now)
        return best(outcomes_of(self.student, self.data.evaluated, self.settings, self.initial), self.settings.keep)[1]

    def _remember(self, state: RunState, figures: Figures, worth: Merit) -> RunState:
        after = judged(state, figures, worth)
        if after.best_step == state.step and self.fabric.main:
            self.folder.save_best(self.student)
        if self.settings.patience and after.worse >= self.settings.patience and after.stopped is None:
            return replace(after, stopped=f"No better trade-off in {after.worse} evaluations.")
        return after

    def _evaluation_due(self, state: RunState) -> bool:
        if state.stopped is not None:
            return False  # a collapsed pair is no candidate
        every = self.settings.interval
        return state.step == self.settings.steps or bool(every and state.step % every == 0)

    def _save_due(self, state: RunState) -> bool:
        ended = state.step == self.settings.steps or state.stopped is not None
        best = state.best_step == state.step  # whose weights are on disk by now: the state must say so
        return ended or best or state.step % self.settings.save_every == 0

    def _save(self, state: RunState, optimiser: torch.optim.Optimizer) -> None:
        if self.fabric.main:
            self.folder.save(state, self.student, optimiser)
        self.fabric.wait()

    def _tell(self, step: int, figures: Mapping[str, float]) -> None:
        if self.fabric.main:
            self.folder.note(step, figures)
            self.report(step, figures)


def _likely(batch: PairPositions) -> float:
    """Mean likelihood of the answers."""
    return likelihood(batch.answers_seen, batch.sequences).mean().item()


def new_optimiser(student: Student, settings: TrainingSettings) -> torch.optim.Optimizer:
    """AdamW over what is trained."""
    return torch.optim.AdamW(
        student.named().values(), lr=settings.rate, weight_decay=settings.weight_decay, foreach=False
    )


def set_rate(optimiser: torch.optim.Optimizer, step: int, settings: TrainingSettings) -> None:
    for group in optimiser.param_groups:
        group["lr"] = settings.rate * rate_share(step, settings.steps, settings.warm_up)


def rate_share(step: int, steps: int, warm_up: int) -> float:
    """Share of the peak learning rate: linear warm-up, then a cosine to `LEAST_RATE`."""
    done = max(0, step - warm_up) / max(1, steps - warm_up)
    return min(1.0, (step + 1) / max(1, warm_up)) * (LEAST_RATE + (1 - LEAST_RATE) * (1 + math.cos(math.pi * done)) / 2)


def _collapse(step: int, bound: float) -> str:
    return (
        f"Stopped at step {step}: over {COLLAPSE_STEPS} steps the KL to the black box on retain rows stayed above "
        f"{bound:g} nats. The model is collapsing; train fewer steps, at a lower learning rate, or with a retain term."
    )
