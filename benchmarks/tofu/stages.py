"""Stages of the table as processes of their own, as many at a time as there are cores; what is done stays done."""

import asyncio
import hashlib
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from benchmarks.tofu import measuring, models, unlearning
from benchmarks.tofu.bench import Bench, write_subset


@dataclass(frozen=True, slots=True)
class Stage:
    """One piece of work, and the stages that must be done before."""

    run: Callable[[Bench], None]
    needs: tuple[str, ...] = ()


def graph(bench: Bench) -> dict[str, Stage]:
    """Every stage by name, in an order that keeps the long ones early."""
    stages = {
        "subset": Stage(write_subset),
        "tokenizer": Stage(models.make_tokenizer, ("subset",)),
        "blackbox": Stage(models.make_black_box, ("tokenizer",)),
        "retrained": Stage(models.make_retrained, ("tokenizer",)),
        "base": Stage(models.make_base, ("tokenizer",)),
        "collect": Stage(unlearning.collect, ("blackbox", "base")),
        "evaluate-retrained": Stage(_model("retrained"), ("retrained",)),
        "evaluate-blackbox": Stage(_model("blackbox"), ("blackbox", "evaluate-retrained")),
    }
    for name in unlearning.objectives(bench):
        stages[f"offset-{name}"] = Stage(_bound(unlearning.make_offset, name), ("collect",))
    for name in unlearning.direct_objectives(bench):
        stages[f"direct-{name}"] = Stage(_bound(unlearning.make_direct, name), ("collect",))
    for made in [name for name in stages if name.startswith(("offset-", "direct-"))]:
        kind, _, name = made.partition("-")
        run = _bound(measuring.evaluate_offset, name) if kind == "offset" else _model(made)
        stages[f"evaluate-{made}"] = Stage(run, (made, "evaluate-retrained"))
    return stages


@dataclass(slots=True)
class Runner:
    """Runs what is not done; a stage that fails takes along only those that need it."""

    bench: Bench
    scale: str
    slots: int

    async def run(self, names: Mapping[str, Stage]) -> dict[str, str]:
        """Reasons by name of stages that failed."""
        self._done.mkdir(parents=True, exist_ok=True)
        (self.bench.work / "logs").mkdir(exist_ok=True)
        free, failed = asyncio.Semaphore(self.slots), dict[str, str]()
        ends = {name: asyncio.Event() for name in names}

        async def one(name: str, stage: Stage) -> None:
            for need in stage.needs:
                await ends[need].wait()
            try:
                if lost := next((need for need in stage.needs if need in failed), None):
                    failed[name] = failed[lost]
                elif not self.is_done(name):
                    async with free:
                        await self._process(name, failed)
            finally:
                ends[name].set()

        async with asyncio.TaskGroup() as tasks:
            for name, stage in names.items():
                tasks.create_task(one(name, stage))
        return failed

    def is_done(self, name: str) -> bool:
        """Whether the stage was finished for this scale and this data."""
        path = self._done / f"{name}.json"
        return path.is_file() and orjson.loads(path.read_bytes())["of"] == self._key

    def seconds(self, name: str) -> float:
        return float(orjson.loads((self._done / f"{name}.json").read_bytes())["seconds"])

    @property
    def _done(self) -> Path:
        return self.bench.work / "done"

    @property
    def _key(self) -> str:
        """Of what decides every stage's outcome. The objectives' list does not: a new one is only a new stage."""
        scale = {name: value for name, value in asdict(self.bench.scale).items() if not name.endswith("objectives")}
        digest = hashlib.sha256(orjson.dumps(scale, option=orjson.OPT_SORT_KEYS))
        digest.update((self.bench.data / "full.jsonl").read_bytes())
        return digest.hexdigest()

    async def _process(self, name: str, failed: dict[str, str]) -> None:
        _say(f"{name} …")
        log, began = self.bench.work / "logs" / f"{name}.log", time.monotonic()
        command = [sys.executable, "-m", "benchmarks.tofu", "--stage", name, "--scale", self.scale]
        command += ["--data", str(self.bench.data), "--work", str(self.bench.work)]
        with log.open("wb") as said:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=said, stderr=said, env=_one_thread()
            )
            try:
                status = await process.wait()
            finally:
                if process.returncode is None:
                    process.terminate()
        seconds = round(time.monotonic() - began, 1)
        if status:
            failed[name] = _last_line(log)
            print(
                f"{time.strftime('%H:%M:%S')}  {name} failed after {seconds:.0f} s: {failed[name]} ({log})", flush=True
            )
            return
        (self._done / f"{name}.json").write_bytes(orjson.dumps({"of": self._key, "seconds": seconds}))
        _say(f"{name} done in {seconds:.0f} s")


def _model(name: str) -> Callable[[Bench], None]:
    return _bound(measuring.evaluate_model, name)


def _bound(work: Callable[[Bench, str], None], name: str) -> Callable[[Bench], None]:
    return lambda bench: work(bench, name)


def _one_thread() -> dict[str, str]:
    """One core a stage: as many stages as cores run beside each other."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def _last_line(log: Path) -> str:
    lines: Sequence[str] = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing"
