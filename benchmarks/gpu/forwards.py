"""A decode step of B streams, base and adapter: over pages as one graph, and eager over slots: what launches cost."""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Final

import torch

from benchmarks.gpu.record import Record
from benchmarks.gpu.setup import Setup
from deltaserve.offset_models.checkpoints.model_files import load_model
from deltaserve.offset_models.checkpoints.peft_files import load_adapter
from deltaserve.offset_models.engine.forward.attention import without_plans_per_length
from deltaserve.offset_models.engine.forward.runner import Runner, Work

CONTEXT: Final = 256
CHUNK: Final = 16  # prompts in one batch
WARM_UPS: Final = 3
TIMES: Final = 20
TINY_TIMES: Final = 2
PART: Final = "forwards"


def forwards(setup: Setup, record: Record) -> None:
    without_plans_per_length()
    for way, paged in {"graph": True, "eager": False}.items():
        began = time.perf_counter()
        runner, adapter = _runner(setup, paged=paged)
        runner.warm()
        setup.wait()
        record.row(PART, way=way, loaded_s=time.perf_counter() - began)
        for streams in setup.streams:
            _fill(runner, streams, adapter)
            run = _step(runner, streams, adapter)
            record.row(PART, way=way, streams=streams, context=CONTEXT, ms=timed(setup, run))
        del runner, run
        gc.collect()
        if not setup.tiny:
            torch.cuda.empty_cache()


def timed(setup: Setup, run: Callable[[], object]) -> float:
    """Median milliseconds, the device's work included."""
    for _ in range(WARM_UPS):
        run()
    setup.wait()
    times = []
    for _ in range(TINY_TIMES if setup.tiny else TIMES):
        started = time.perf_counter()
        run()
        setup.wait()
        times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times)


def _runner(setup: Setup, *, paged: bool) -> tuple[Runner, int]:
    """On a CPU the pages are read by plain torch, without a graph."""
    model = load_model(setup.root / "base")
    slots = 2 * setup.streams[-1] + 4
    dtype = getattr(torch, setup.dtype)
    runner = Runner(model, slots, 2 * CONTEXT, setup.device, dtype, paged=paged)
    return runner, runner.adapters.add(load_adapter(setup.folder / "adapter", runner.model))


def _fill(runner: Runner, streams: int, adapter: int) -> None:
    """Both members of every stream have read a prompt."""
    prompts = [Work(slot, 0, _prompt(slot), who, 1) for slot, who in _members(streams, adapter)]
    for start in range(0, len(prompts), CHUNK):
        runner.forward_packed(prompts[start : start + CHUNK])


def _step(runner: Runner, streams: int, adapter: int) -> Callable[[], object]:
    step = [Work(slot, CONTEXT, [7], who, 1) for slot, who in _members(streams, adapter)]
    return lambda: runner.forward_packed(step)


def _members(streams: int, adapter: int) -> list[tuple[int, int | None]]:
    """(slot, adapter) of the bases, then of the adapters, as the engine packs them."""
    return [*((2 * s, None) for s in range(streams)), *((2 * s + 1, adapter) for s in range(streams))]


def _prompt(slot: int) -> Sequence[int]:
    return [5 + (7 * slot + i) % 1000 for i in range(CONTEXT)]
