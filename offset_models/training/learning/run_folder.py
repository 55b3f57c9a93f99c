"""A run on disk: its state (weights, optimiser, where it stands), metrics.jsonl, and the best and last weights.

What is written is written beside and renamed: a kill at any moment leaves the state of some earlier step, whole.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

import orjson
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from deltaserve.errors import BadRequest
from deltaserve.offset_models.files.safe_files import READABLE, sync_folder, write_atomically
from deltaserve.offset_models.training.learning.calibration import Candidate
from deltaserve.offset_models.training.learning.held_out import Figures, Merit, Outcome
from deltaserve.offset_models.training.learning.student import Student, restore, tensors

STATE: Final = "state.safetensors"
BEST: Final = "best.safetensors"
METRICS: Final = "metrics.jsonl"
_WEIGHTS, _OPTIMISER, _RNG = "weights/", "optimiser/", "rng"


@dataclass(frozen=True, slots=True)
class RunState:
    """Where a run stands."""

    run: str  # digest of settings, data and base
    step: int = 0  # steps done
    before: Figures | None = None  # step 0: the black box itself
    latest: Figures | None = None
    best: Figures | None = None
    best_step: int | None = None
    best_merit: Merit | None = None
    worse: int = 0  # evaluations since one was better than all before it
    retain_kl: tuple[float, ...] = field(default=())  # of the last steps, nats
    seconds: float = field(default=0.0, compare=False)  # spent on steps, over all processes that had a share in it
    stopped: str | None = None  # why the run ended before its last step

    def to_json(self) -> bytes:
        return orjson.dumps(asdict(self))

    @classmethod
    def from_json(cls, raw: str) -> "RunState":
        value = orjson.loads(raw)
        for name in ("before", "latest", "best"):
            value[name] = None if value[name] is None else Figures(**value[name])
        merit = None if value["best_merit"] is None else tuple(value["best_merit"])
        return cls(**{**value, "best_merit": merit, "retain_kl": tuple(value["retain_kl"])})


@dataclass(frozen=True, slots=True)
class Calibration:
    """How the weights worth keeping are served, and what that gives on held-out rows."""

    FILE: ClassVar = "calibration.json"
    chosen: Candidate
    figures: Figures
    outcomes: Mapping[Candidate, Outcome]  # of all candidates; empty where nothing was left to choose

    def to_json(self) -> dict[str, Any]:
        outcomes = [[*astuple(candidate), *astuple(outcome)] for candidate, outcome in self.outcomes.items()]
        return {"chosen": astuple(self.chosen), "figures": asdict(self.figures), "outcomes": outcomes}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Calibration":
        outcomes = {Candidate(*numbers[:2]): Outcome(*numbers[2:]) for numbers in value["outcomes"]}
        return cls(Candidate(*value["chosen"]), Figures(**value["figures"]), outcomes)


@dataclass(frozen=True, slots=True)
class AnswerRecalls:
    """ROUGE-L recall of whole greedy answers to held-out rows that must go, by which a candidate is chosen."""

    FILE: ClassVar = "answered.json"
    black_box: float
    recalls: Mapping[Candidate, float]  # in the order of asking
    figures: Figures | None = None  # of the chosen one, where that is not the first

    @property
    def left(self) -> dict[Candidate, float]:
        """Shares of the black box's recall."""
        return {candidate: min(1.0, recall / self.black_box) for candidate, recall in self.recalls.items()}

    def to_json(self) -> dict[str, Any]:
        recalls = [[*astuple(candidate), recall] for candidate, recall in self.recalls.items()]
        figures = None if self.figures is None else asdict(self.figures)
        return {"black_box": self.black_box, "recalls": recalls, "figures": figures}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "AnswerRecalls":
        recalls = {Candidate(*numbers[:2]): numbers[2] for numbers in value["recalls"]}
        return cls(value["black_box"], recalls, None if value["figures"] is None else Figures(**value["figures"]))


Record = TypeVar("Record", Calibration, AnswerRecalls)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Belongs to one process at a time."""

    path: Path

    def resume(self, run: str, student: Student, optimiser: torch.optim.Optimizer, *, writes: bool = True) -> RunState:
        """The state to go on from, put into student and optimiser; step 0 where there is none.

        Of several processes one `writes`. Raises BadRequest when the folder holds another run, or its state is torn.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if not (self.path / STATE).exists():
            if writes:
                self._cut_metrics(-1)
            return RunState(run)
        state, saved = _read(self.path / STATE)
        if state.run != run:
            raise BadRequest(
                f"{self.path.name} holds a run with other settings, data or base; "
                "train into another folder, or remove this one."
            )
        _restore(saved, student, optimiser)
        if writes:
            self._cut_metrics(state.step)
        return state

    def save(self, state: RunState, student: Student, optimiser: torch.optim.Optimizer) -> None:
        columns = {_WEIGHTS + name: tensor for name, tensor in tensors(student).items()}
        columns |= _optimiser_tensors(optimiser) | {_RNG: torch.get_rng_state()}
        _write(self.path / STATE, columns, {"state": state.to_json().decode()})

    def save_best(self, student: Student) -> None:
        _write(self.path / BEST, tensors(student), {})

    def load_best(self, student: Student) -> None:
        """Put the best weights into the student. Only after a `save_best`."""
        restore(student, load_file(self.path / BEST))

    def save_record(self, about: Mapping[str, Any], record: Calibration | AnswerRecalls) -> None:
        """`about` names the weights, and the rule or the questions, as plain JSON types."""
        write_atomically(self.path / record.FILE, orjson.dumps({"about": dict(about), "value": record.to_json()}))

    def record(self, kind: type[Record], about: Mapping[str, Any]) -> Record | None:
        """The record of this kind; None without one, or where it was saved with another `about`."""
        if not (self.path / kind.FILE).exists():
            return None
        saved = orjson.loads((self.path / kind.FILE).read_bytes())
        return kind.from_json(saved["value"]) if saved.get("about") == dict(about) else None

    def choose_anew(self) -> None:
        """Strength and gate are to be chosen anew; the weights stay."""
        for kind in (Calibration, AnswerRecalls):
            (self.path / kind.FILE).unlink(missing_ok=True)

    def note(self, step: int, figures: Mapping[str, Any]) -> None:
        """One line of metrics.jsonl."""
        with (self.path / METRICS).open("ab") as file:
            file.write(orjson.dumps({"step": step, **figures}) + b"\n")

    def metrics(self) -> list[dict[str, Any]]:
        """What was noted, oldest first. A line that a kill cut short is left out."""
        if not (self.path / METRICS).exists():
            return []
        return [orjson.loads(line) for line in (self.path / METRICS).read_bytes().splitlines() if line.endswith(b"}")]

    def _cut_metrics(self, step: int) -> None:
        """Drop what was noted of steps that will be done again."""
        lines = [line for line in self.metrics() if line["step"] <= step]
        write_atomically(self.path / METRICS, b"".join(orjson.dumps(line) + b"\n" for line in lines), READABLE)


def read_state(folder: Path) -> RunState | None:
    """Where the run in `folder` stands; None when there is none."""
    return _read(folder / STATE)[0] if (folder / STATE).exists() else None


def judged(state: RunState, figures: Figures, merit: Merit) -> RunState:
    """The state after an evaluation. Of equals the latest is the best one, but for step 0, which changes nothing."""
    better = state.best_merit is None or merit > state.best_merit
    worse = 0 if better else state.worse + 1
    if better or (merit == state.best_merit and state.best_step):
        return replace(state, latest=figures, best=figures, best_step=state.step, best_merit=merit, worse=worse)
    return replace(state, latest=figures, worse=worse)


def _read(path: Path) -> tuple[RunState, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            state = RunState.from_json((file.metadata() or {})["state"])
            return state, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BadRequest(f"{path} is not the state of a run; remove its folder to start over.") from error


def _restore(saved: Mapping[str, Tensor], student: Student, optimiser: torch.optim.Optimizer) -> None:
    restore(student, {name.removeprefix(_WEIGHTS): t for name, t in saved.items() if name.startswith(_WEIGHTS)})
    state = optimiser.state_dict()
    state["state"] = {}
    for name, tensor in saved.items():
        if name.startswith(_OPTIMISER):
            _, number, key = name.split("/")
            state["state"].setdefault(int(number), {})[key] = tensor
    optimiser.load_state_dict(state)
    torch.set_rng_state(saved[_RNG])


def _optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{_OPTIMISER}{number}/{key}": torch.as_tensor(value).detach().cpu().contiguous()
        for number, values in optimiser.state_dict()["state"].items()
        for key, value in values.items()
    }


def _write(path: Path, columns: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    partial = path.with_name(f".{path.name}")
    save_file(dict(columns), partial, metadata=metadata)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)
