"""Every row through `deltaserve evaluate`, the way a user would: served, over HTTP, against the retrained model."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import orjson

from benchmarks.support.processes import black_box, deltaserve
from benchmarks.tofu.bench import Bench
from benchmarks.tofu.leakage import leakage

REFERENCE: Final = "retrained"
# Further figures of one row by name, from its name and the address where it is served.
Extra = Callable[[Bench, str, str], Mapping[str, float]]
EXTRAS: Final[tuple[Extra, ...]] = (leakage,)


def evaluate(bench: Bench, row: str, served: Callable[[], Iterator[str]]) -> None:
    """Serve, measure, write results/ROW.json and results/ROW.extra.json."""
    out = bench.result(row)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_name(out.name + ".partial").unlink(missing_ok=True)  # begun against a server that is gone
    with contextmanager(served)() as url:
        command = ["evaluate", "--suite", "tofu", "--data", str(bench.work / "suite"), "--server", url]
        command += ["--limit", str(bench.scale.evaluated), "--max-tokens", str(bench.scale.answer_tokens)]
        command += ["--out", str(out), "--concurrency", "8"]
        if row != REFERENCE:
            command += ["--reference", str(bench.result(REFERENCE))]
        subprocess.run([sys.executable, "-m", "deltaserve", *command], check=True, stdout=subprocess.DEVNULL)
        found: dict[str, float] = {}
        for extra in EXTRAS:
            found |= extra(bench, row, url)
    out.with_suffix(".extra.json").write_bytes(orjson.dumps(found))


def evaluate_model(bench: Bench, name: str) -> None:
    """A black box, as it is."""

    def served() -> Iterator[str]:
        with black_box(weights=bench.model(name).parent) as box:
            yield box.url

    evaluate(bench, name, served)


def evaluate_offset(bench: Bench, objective: str) -> None:
    """The black box behind the server with that objective's offset."""

    def served() -> Iterator[str]:
        k = str(bench.scale.measured_k)
        with (
            black_box("--max-logprobs", k, weights=bench.model("blackbox").parent) as box,
            deltaserve(box.url, "--offset", objective, "--upstream-k", k, weights=bench.offsets) as server,
        ):
            yield server.url

    evaluate(bench, f"offset-{objective}", served)
