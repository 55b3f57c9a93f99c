"""One row of the table of objectives: collect, train, serve, ask; the stages of `deltaserve forget`, timed."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copyfile, rmtree
from typing import Any, NamedTuple

import torch

from benchmarks.support.demo_training import Request
from benchmarks.support.processes import WEIGHTS, Running, black_box
from offset_models.checkpoint import read_manifest
from offset_models.demo.progress import Progress
from offset_models.manifest import Manifest, TrainingSummary
from offset_models.tokenizer import Tokenizer
from offset_models.training.answers import own_answers, prompts_of, rouge_l_recall, serving
from offset_models.training.batches import TrainingData
from offset_models.training.collecting import Job, run
from offset_models.training.fabric import Fabric
from offset_models.training.gather import Gathered, read_gathered
from offset_models.training.held_out import harmonic_mean
from offset_models.training.passes import Scored
from offset_models.training.run_folder import RunFolder
from offset_models.training.settings import TrainingSettings
from offset_models.training.sides import Data
from offset_models.training.source import Source
from offset_models.training.stages import Packing, Trained, likelihood_card, progress, summary, train, training_data
from offset_models.training.student import LoraStudent
from server.upstream.probe import connect

BASE, BLACK_BOX = WEIGHTS / "base", WEIGHTS / "blackbox"
ANSWER_TOKENS = 48


class Collected(NamedTuple):
    """A request's rows with what the black box says along them."""

    train: Gathered
    validation: Gathered
    held: Gathered


@dataclass(frozen=True, slots=True)
class Bench:
    """Where the black box listens, and a folder that a later run finds again."""

    url: str
    folder: Path
    questions: int

    def source(self, k: int) -> Source:
        return Source(self.url, "", k, concurrency=4, timeout_s=600.0)

    def collected(self, request: Request, k: int) -> Collected:
        """All rows with the black box's top-k; asked once, then read from the folder."""
        parts = {"train": request.data, "validation": request.validation, "held": request.held}
        return Collected(*(self._collected(f"{request.name}-{part}-k{k}", data, k) for part, data in parts.items()))

    def _collected(self, name: str, data: Data, k: int) -> Gathered:
        tokenizer, out = Tokenizer.load(BASE), self.folder / "collected" / name
        with Progress(visible=True) as shown:
            asyncio.run(run(Job(data, self.source(k), tokenizer, out), shown, lambda _forecast: None))
        return read_gathered(out, data, tokenizer)


def offset(bench: Bench, request: Request, settings: TrainingSettings, name: str, k: int = 20) -> dict[str, Any]:
    """An offset by one objective: forget and retain before and after, and what it took."""
    gathered, validation, held = bench.collected(request, k)
    root, started = fresh(bench.folder / "rows" / name), time.monotonic()
    trained = trained_on(BASE, training_data(gathered, validation, settings), settings, root / "run", name)
    seconds = time.monotonic() - started
    if not trained.kept_step:  # no step was better than none: there is nothing to serve
        own = asyncio.run(_own_recalls(Running(bench.url, 0), held))
        return figures(trained, {"black_box": own, "corrected": own}, seconds)
    trained.student.save(root / "weights", BASE.name)
    about = summary(trained, gathered.collection)
    served = trained.settings
    packing = Packing(root / name, name, BASE, "Apache-2.0", about, served.served_strength, served.served_gate_nats)
    packing.write(root / "weights", full=served.full)
    recalls = asyncio.run(_served_recalls(bench, root, [name], held, k))
    return figures(trained, recalls, seconds)


def direct(bench: Bench, request: Request, settings: TrainingSettings, name: str) -> dict[str, Any]:
    """The same objective on the black box's own weights, which only the demo can do."""
    gathered, validation, held = bench.collected(request, 20)
    settings = replace(settings, strength=1.0, extrapolate=1.0, gate_nats=0.0)  # q is the tuned model itself
    blind = training_data(_without_lists(gathered), _without_lists(validation), settings)
    root, started = fresh(bench.folder / "rows" / name), time.monotonic()
    trained = trained_on(BLACK_BOX, blind, settings, root / "run", name)
    seconds = time.monotonic() - started
    with black_box(weights=_merged(trained, root / "weights")) as served:
        after = asyncio.run(_own_recalls(served, held))
    before = asyncio.run(_own_recalls(Running(bench.url, 0), held))
    return figures(trained, {"black_box": before, "corrected": after}, seconds)


def served_sum(
    bench: Bench, parts: Sequence[str], held: Gathered, least_gate_nats: float = 0.0, k: int = 20
) -> dict[str, dict[str, float]]:
    """Recalls of several rows' offsets served as one sum, each behind its own gate, or a higher one."""
    root = fresh(bench.folder / "rows" / f"sum-of-{len(parts)}")
    for name in parts:
        row = bench.folder / "rows" / name
        made = read_manifest(row / name)
        gate_nats = max(made.gate_nats, least_gate_nats)
        packing = Packing(root / name, name, BASE, "Apache-2.0", summary_of(made), made.strength, gate_nats)
        packing.write(row / "weights", full=False)
    return asyncio.run(_served_recalls(bench, root, parts, held, k))


def summary_of(manifest: Manifest) -> TrainingSummary:
    if manifest.training is None:
        raise TypeError("a checkpoint that was trained here says how")
    return manifest.training


def trained_on(base: Path, data: TrainingData, settings: TrainingSettings, folder: Path, name: str) -> Trained:
    with Progress(visible=True) as shown, shown.stage(name, settings.steps) as advance:
        return train(base, data, settings, RunFolder(folder), Fabric(torch.device("cpu")), progress(advance))


def figures(trained: Trained, recalls: Mapping[str, Mapping[str, float]], seconds: float) -> dict[str, Any]:
    """A row: recalls and probabilities, and the harmonic mean of forgetting and retention."""
    before, after = recalls["black_box"], recalls["corrected"]
    return {
        **{f"recall/{side}/{when}": value for when, sides in recalls.items() for side, value in sides.items()},
        **likelihood_card(trained.state),
        **shares(before, after),
        "steps": trained.state.step,
        "kept_step": trained.kept_step,
        "strength": trained.settings.served_strength,
        "gate_nats": trained.settings.served_gate_nats,
        "stopped": trained.state.stopped,
        "train_s": round(seconds, 1),
    }


def shares(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What is left of the black box's recall on each side."""
    forget, retain = (min(1.0, after[side] / before[side]) for side in ("forget", "retain"))
    return {"forget_share": forget, "retain_share": retain, "harmonic": harmonic_mean(1 - forget, retain)}


def fresh(folder: Path) -> Path:
    rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


async def _served_recalls(
    bench: Bench, root: Path, names: Sequence[str], held: Gathered, k: int
) -> dict[str, dict[str, float]]:
    recalls: dict[str, dict[str, float]] = {"black_box": {}, "corrected": {}}
    async with serving(root, names, BASE, bench.source(k), ANSWER_TOKENS) as served:
        for side, rows in _sides(held):
            wanted = [served.version.tokenizer.decode(sample.answer_ids, True) for sample, _ in rows]
            for when, ask in (("black_box", served.before), ("corrected", served.after)):
                recalls[when][side] = rouge_l_recall(await ask(prompts_of(rows), lambda: None), wanted)
    return recalls


async def _own_recalls(box: Running, held: Gathered) -> dict[str, float]:
    tokenizer = Tokenizer.load(BASE)
    upstream = await connect(box.url.removesuffix("/v1") + "/v1", tokenizer=tokenizer, k=20)
    try:
        found = {}
        for side, rows in _sides(held):
            wanted = [tokenizer.decode(sample.answer_ids, True) for sample, _ in rows]
            answers = await own_answers(upstream, tokenizer, prompts_of(rows), ANSWER_TOKENS)
            found[side] = rouge_l_recall(answers, wanted)
        return found
    finally:
        await upstream.aclose()


def _sides(held: Gathered) -> Iterator[tuple[str, list[Any]]]:
    yield "forget", held.forget
    yield "retain", held.retain


def _without_lists(gathered: Gathered) -> Any:
    """The same samples without a black box beside them: the model that is tuned is its own."""

    def bare(rows: Sequence[Scored]) -> list[Scored]:
        return [(sample, None) for sample, _ in rows]

    sides = bare(gathered.forget), bare(gathered.refused), bare(gathered.retain)
    return Gathered(*sides, gathered.collection)  # type: ignore[arg-type]  # lists are what it lacks on purpose


def _merged(trained: Trained, folder: Path) -> Path:
    """The tuned black box as a folder that can be served."""
    student = trained.student
    if not isinstance(student, LoraStudent):
        raise TypeError("direct tuning merges an adapter")
    student.lora.merge()
    student.unlearned.save_pretrained(folder / "blackbox")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        copyfile(BLACK_BOX / name, folder / "blackbox" / name)
    return folder


@contextmanager
def opened(folder: Path, questions: int, url: str | None = None) -> Iterator[Bench]:
    """The demo's black box, all of whose vocabulary may be listed; or one that already runs."""
    if url is not None:
        yield Bench(url, folder, questions)
        return
    with black_box("--max-logprobs", "-1") as box:
        yield Bench(box.url + "/v1", folder, questions)
