"""One row of the table of objectives: collect, train, pack; the stages of `deltaserve forget`, timed."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree
from typing import Any, NamedTuple

import torch

from benchmarks.support.demo_training import Request
from benchmarks.support.judging import ANSWER_TOKENS, BASE, TUNED, Figures, figures, judged, judged_sum
from benchmarks.support.processes import WEIGHTS, black_box
from deltaserve.offset_models.checkpoints.checkpoint import read_manifest
from deltaserve.offset_models.checkpoints.manifest import Manifest, TrainingSummary
from deltaserve.offset_models.checkpoints.pack import copy_tokenizer
from deltaserve.offset_models.progress.progress import Progress
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training.collecting.collected import Collected, read_collected
from deltaserve.offset_models.training.collecting.job import Job, collect
from deltaserve.offset_models.training.collecting.source import Source
from deltaserve.offset_models.training.finalists import HeldOutQuestions, by_answers
from deltaserve.offset_models.training.learning.batches import TrainingData, spread
from deltaserve.offset_models.training.learning.fabric import Fabric
from deltaserve.offset_models.training.learning.reporting import step_report
from deltaserve.offset_models.training.learning.run_folder import RunFolder, read_state
from deltaserve.offset_models.training.learning.settings import TrainingSettings
from deltaserve.offset_models.training.learning.student import LoraStudent
from deltaserve.offset_models.training.packing import Packing, summary
from deltaserve.offset_models.training.rows.dataset import Data
from deltaserve.offset_models.training.rows.scored import Scored
from deltaserve.offset_models.training.stages import Trained, likelihood_card, train, training_data

BLACK_BOX = WEIGHTS / "blackbox"
CHOOSING = 64  # questions whose whole answers choose among strengths, as many as `deltaserve forget` asks


class CollectedRequest(NamedTuple):
    """A request's rows with what the black box says along them."""

    train: Collected
    validation: Collected


@dataclass(frozen=True, slots=True)
class Bench:
    """Where the black box listens, and a folder that a later run finds again."""

    url: str
    folder: Path

    def source(self, k: int) -> Source:
        return Source(self.url, "", k, concurrency=4, timeout_s=600.0)

    def row(self, name: str) -> Path:
        return self.folder / "rows" / name

    def collected(self, request: Request, k: int) -> CollectedRequest:
        """All rows with the black box's top-k; asked once, then read from the folder."""
        parts = {"train": request.data, "validation": request.validation}
        return CollectedRequest(
            *(self._collected(f"{request.name}-{part}-k{k}", data, k) for part, data in parts.items())
        )

    def _collected(self, name: str, data: Data, k: int) -> Collected:
        tokenizer, out = Tokenizer.load(BASE), self.folder / "collected" / name
        with Progress(visible=True) as bar:
            asyncio.run(collect(Job(data, self.source(k), tokenizer, out), bar, lambda _forecast: None))
        return read_collected(out, data, tokenizer)


def offset(bench: Bench, request: Request, settings: TrainingSettings, name: str, k: int = 20) -> dict[str, Any]:
    """An offset by one objective: forget and retain before and after, and what it took."""
    fresh(bench.row(name))
    return _offset(bench, request, settings, name, k)


def offset_again(bench: Bench, request: Request, settings: TrainingSettings, name: str, k: int = 20) -> dict[str, Any]:
    """The same of what is trained already; strength and gate are chosen anew. Raises BadRequest for other settings."""
    RunFolder(bench.row(name) / "run").choose_anew()
    return _offset(bench, request, settings, name, k)


def _offset(bench: Bench, request: Request, settings: TrainingSettings, name: str, k: int) -> dict[str, Any]:
    gathered, validation = bench.collected(request, k)
    root, data = bench.row(name), training_data(gathered, validation, settings, Tokenizer.load(BASE))
    trained = trained_on(BASE, data, settings, root / "run", name)
    if trained.kept_step:  # else no step was better than none, and there is nothing to serve
        trained = _by_answers(bench, trained, packing_of(bench, name, trained, gathered), data, k)
        rmtree(root / name, ignore_errors=True)
        trained.student.save(root / "weights", BASE.name)
        packing_of(bench, name, trained, gathered).write(root / "weights", full=trained.settings.full)
    return {**figures(judged(root, bench.source(k), request)), **about_run(trained)}


def _by_answers(bench: Bench, trained: Trained, packing: Packing, data: TrainingData, k: int) -> Trained:
    """As `deltaserve forget` chooses among strengths."""
    rows, run_folder = spread(data.held_forget, CHOOSING), RunFolder(bench.row(packing.name) / "run")
    with Progress(visible=True) as bar:
        asking = HeldOutQuestions(rows, bench.source(k), ANSWER_TOKENS, "cpu", bar)
        return by_answers(trained, packing, data, run_folder, asking)


def direct(bench: Bench, request: Request, settings: TrainingSettings, name: str) -> dict[str, Any]:
    """The same objective on the black box's own weights, which only the demo can do."""
    gathered, validation = bench.collected(request, 20)
    settings = replace(settings, strength=1.0, extrapolate=1.0, gate_nats=0.0)  # q is the tuned model itself
    blind = training_data(_without_lists(gathered), _without_lists(validation), settings, Tokenizer.load(BASE))
    root = fresh(bench.row(name))
    trained = trained_on(BLACK_BOX, blind, settings, root / "run", name)
    _merge(trained, root / TUNED)
    return {**figures(judged(root, bench.source(20), request)), **about_run(trained)}


def direct_again(bench: Bench, request: Request, name: str) -> dict[str, Any]:
    """What is tuned already, judged again: nothing is chosen but the step, which it is the weights of."""
    state = read_state(bench.row(name) / "run")
    seconds = {} if state is None else {"train_s": round(state.seconds, 1)}
    return {**figures(judged(bench.row(name), bench.source(20), request)), **seconds}


def served_sum(bench: Bench, request: Request, parts: Sequence[str], least_gate_nats: float = 0.0) -> Figures:
    """Several rows' offsets served as one sum, each behind its own gate, or a higher one."""
    root = fresh(bench.row(f"sum-of-{len(parts)}"))
    for name in parts:
        manifest = read_manifest(bench.row(name) / name)
        gate_nats = max(manifest.gate_nats, least_gate_nats)
        packing = Packing(root / name, name, BASE, "Apache-2.0", summary_of(manifest), manifest.strength, gate_nats)
        packing.write(bench.row(name) / "weights", full=False)
    return judged_sum(root, parts, bench.source(20), request)


def packing_of(bench: Bench, name: str, trained: Trained, gathered: Collected) -> Packing:
    about, served = summary(trained, gathered.collection), trained.settings
    out = bench.row(name) / name
    return Packing(out, name, BASE, "Apache-2.0", about, served.served_strength, served.served_gate_nats)


def summary_of(manifest: Manifest) -> TrainingSummary:
    if manifest.training is None:
        raise TypeError("a checkpoint that was trained here says how")
    return manifest.training


def trained_on(base: Path, data: TrainingData, settings: TrainingSettings, folder: Path, name: str) -> Trained:
    with Progress(visible=True) as bar, bar.stage(name, settings.steps) as advance:
        return train(base, data, settings, RunFolder(folder), Fabric(torch.device("cpu")), step_report(advance))


def about_run(trained: Trained) -> dict[str, Any]:
    """Cells of a row: probabilities on the rows that chose, what was chosen, and what it took."""
    return {
        **likelihood_card(trained.state),
        "steps": trained.state.step,
        "kept_step": trained.kept_step,
        "strength": trained.settings.served_strength,
        "gate_nats": trained.settings.served_gate_nats,
        "stopped": trained.state.stopped,
        "train_s": round(trained.state.seconds, 1),
    }


def fresh(folder: Path) -> Path:
    rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _without_lists(gathered: Collected) -> Any:
    """The same samples without a black box beside them: the model that is tuned is its own."""

    def bare(rows: Sequence[Scored]) -> list[Scored]:
        return [(sample, None) for sample, _ in rows]

    gathered_rows = bare(gathered.forget), bare(gathered.refused), bare(gathered.retain)
    return Collected(*gathered_rows, gathered.collection)  # type: ignore[arg-type]  # lists are what it lacks on purpose


def _merge(trained: Trained, folder: Path) -> None:
    """The tuned black box as a folder that can be served."""
    student = trained.student
    if not isinstance(student, LoraStudent):
        raise TypeError("direct tuning merges an adapter")
    student.lora.merge()
    student.unlearned.save_pretrained(folder)
    copy_tokenizer(BLACK_BOX, folder)


@contextmanager
def opened(folder: Path, url: str | None = None) -> Iterator[Bench]:
    """The demo's black box, all of whose vocabulary may be listed; or one that already runs."""
    if url is not None:
        yield Bench(url, folder)
        return
    with black_box("--max-logprobs", "-1") as box:
        yield Bench(box.url + "/v1", folder)
