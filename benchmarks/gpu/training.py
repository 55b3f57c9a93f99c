"""Training on the device: the demo's own run beside the same on a CPU, and seconds a step of the half-billion shape."""

import statistics
import time
from dataclasses import asdict, replace
from itertools import pairwise
from random import Random
from typing import Final

import numpy as np
import torch

from benchmarks.gpu.record import Record
from benchmarks.gpu.setup import Setup
from benchmarks.support.demo_training import Questions, request, split, ten_people
from benchmarks.support.processes import WEIGHTS
from benchmarks.support.training_rows import Bench
from deltaserve.offset_models.demo.pipeline.scales import FULL
from deltaserve.offset_models.demo.register.erasure import Amounts
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training.learning.batches import TrainingData
from deltaserve.offset_models.training.learning.fabric import Fabric
from deltaserve.offset_models.training.learning.run_folder import RunFolder
from deltaserve.offset_models.training.learning.settings import TrainingSettings
from deltaserve.offset_models.training.rows.samples import Sample
from deltaserve.offset_models.training.rows.scored import Scored, TopK
from deltaserve.offset_models.training.stages import train, training_data

AMOUNTS: Final = Amounts(forget=12, retain=1, strangers=24, exchanges=1, small_talk=1, running=2, running_retain=0)
TINY_AMOUNTS: Final = Amounts(forget=1, retain=0, strangers=4, exchanges=1, small_talk=0, running=0, running_retain=0)
ASKED: Final = Questions(choosing=24, choosing_retain=48, judging=1)
TINY_ASKED: Final = Questions(choosing=2, choosing_retain=2, judging=1)
STEPS: Final = 60
TINY_STEPS: Final = 2
TINY_BATCH: Final = 4  # rows of each side
TIMED_STEPS: Final = 12
FIRST_STEPS: Final = 4  # of those, not counted
ROWS: Final = 64
PROMPT: Final = 32  # tokens
ANSWER: Final = 24


def training(setup: Setup, record: Record) -> None:
    """One person of the demo's register is to be forgotten: the same data, settings and seed on each device."""
    steps = TINY_STEPS if setup.tiny else STEPS
    settings = replace(FULL.offset, steps=steps, eval_every=steps // 2, seed=7)
    if setup.tiny:
        settings = replace(settings, forget_batch=TINY_BATCH, retain_batch=TINY_BATCH)
    data = _demo_data(setup, settings)
    runs = {"cpu": ("cpu", "float32"), setup.device: (setup.device, "float32")}
    if not setup.tiny:  # CPUs take long for it
        runs[f"{setup.device}, bfloat16"] = (setup.device, "bfloat16")
    for name, (device, precision) in runs.items():
        own = replace(settings, precision=precision)  # type: ignore[arg-type]
        began = time.monotonic()
        state = train(
            WEIGHTS / "base", data, own, RunFolder(setup.folder / f"run-{name}"), Fabric.find(device), lambda *_: None
        ).state
        figures = {} if state.best is None else asdict(state.best)
        record.row(
            "training",
            where=name,
            kept_step=state.best_step,
            s_a_step=state.seconds / steps,
            whole_s=time.monotonic() - began,
            **figures,
        )


def _demo_data(setup: Setup, settings: TrainingSettings) -> TrainingData:
    people = ten_people()
    amounts, asked = (TINY_AMOUNTS, TINY_ASKED) if setup.tiny else (AMOUNTS, ASKED)
    registry = split(people[:1], people)
    if setup.tiny:
        registry = replace(registry, retain=registry.retain[:1])
    wanted = request("gpu", registry, amounts, asked)
    gathered = Bench(setup.box().url + "/v1", setup.folder / "training").collected(wanted, FULL.top_k)
    return training_data(gathered.train, gathered.validation, settings, Tokenizer.load(WEIGHTS / "base"))


def step_time(setup: Setup, record: Record) -> None:
    """Median seconds a step of a LoRA on the half-billion shape, with the package's own batches."""
    settings = TrainingSettings(
        steps=TIMED_STEPS, objective="npo", answer_noise=0.0, ending_weight=0.0, save_every=1000
    )
    if setup.tiny:
        settings = replace(settings, steps=FIRST_STEPS + 2, forget_batch=2, retain_batch=2)
    rows = _made_up_rows(ROWS, PROMPT, ANSWER)
    data, told = TrainingData({"reference": rows}, rows), list[float]()
    folder, fabric = RunFolder(setup.folder / "step-time"), Fabric.find(setup.device)
    train(setup.root / "base", data, settings, folder, fabric, lambda *_: told.append(time.monotonic()))
    gaps = [later - earlier for earlier, later in pairwise(told[FIRST_STEPS:])]
    batches = {"forget_batch": settings.forget_batch, "retain_batch": settings.retain_batch}
    record.row("step_time", s_a_step=statistics.median(gaps), **batches, tokens_a_row=PROMPT + ANSWER, **_peak(setup))
    record.figure("gpu_training_s_per_step", statistics.median(gaps))


def _made_up_rows(count: int, prompt: int, answer: int, k: int = 20) -> list[Scored]:
    random, rng = Random(0), np.random.default_rng(0)
    ids = range(5, 2000)

    def row() -> Scored:
        sample = Sample(tuple(random.choices(ids, k=prompt)), tuple(random.choices(ids, k=answer)))
        listed = np.stack([rng.choice(2000, k, replace=False) for _ in range(answer)]).astype(np.int64)
        probs = -np.sort(-rng.dirichlet(np.full(k + 1, 0.5), answer)[:, :k], axis=1)
        return sample, TopK(listed, np.log(np.maximum(probs, 1e-9)).astype(np.float32))

    return [row() for _ in range(count)]


def _peak(setup: Setup) -> dict[str, float]:
    return {} if setup.tiny else {"peak_gb": torch.cuda.max_memory_allocated() / 1e9}
