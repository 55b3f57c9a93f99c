"""The demo measured and attacked, as an operator would: `make report-demo`. Writes build/report/.

Four servers on loopback: the black box; deltaserve before it, without and with guards; and the pair's base, a model
that never read the register. Each step is a command of `deltaserve` and is printed; a run that was cut off goes on.
"""

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from deltaserve.client.console.interrupts import until_stopped
from deltaserve.client.console.terminal import Status, Stop
from deltaserve.client.demo.servers import BASE, DEFAULT_K, Correction, black_box, ready, server
from deltaserve.offset_models.demo.manifest import WEIGHTS

GUARDS = {"guard_kl": 0.5, "guard_min_p": 0.2, "guard_temperature": 0.3, "guard_unbiased": True}
TITLE = "The demo's offset: what was forgotten, what was kept, what still leaks"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--out", type=Path, default=Path("build/report"))
    parser.add_argument("--limit", type=int, default=30, help="questions of each split that are evaluated")
    parser.add_argument("--items", type=int, default=18, help="forgotten questions that are attacked")
    parser.add_argument("--costly-items", type=int, default=4)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--kept", type=int, default=24)
    parser.add_argument("--draws", type=int, default=128, help="for leak@k, of each costly item in every form")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    try:
        until_stopped(lambda: run(given))
    except Stop as stop:
        sys.stderr.write(f"{stop.message}\n")
        return int(stop.status)
    return 0


async def run(given: argparse.Namespace) -> None:
    """Everything, with its servers up."""
    out, how = given.out, Correction(DEFAULT_K)
    async with AsyncExitStack() as stack:
        box = await stack.enter_async_context(black_box(given.weights, None, DEFAULT_K))
        naive = await stack.enter_async_context(black_box(given.weights, None, DEFAULT_K, BASE))
        served = await stack.enter_async_context(server(given.weights, None, box.url, how))
        guarded = await stack.enter_async_context(server(given.weights, None, box.url, how, more=GUARDS))
        await ready(box, naive, served, guarded)
        limit = ("--suite", "registry", "--limit", given.limit, "--max-tokens", 40, "--keep-text")
        reference, evaluation, leakage = (out / f"{name}.json" for name in ("reference", "evaluation", "leakage"))
        await deltaserve("evaluate", "--server", naive.url, *limit, "--out", reference)
        await deltaserve(
            "evaluate",
            "--server",
            served.url,
            "--before",
            box.url,
            "--reference",
            reference,
            *limit,
            "--out",
            evaluation,
        )
        how_much = ("--items", given.items, "--costly-items", given.costly_items, "--samples", given.samples)
        sides = ("--server", served.url, "--before", box.url, "--guarded", guarded.url, "--reference", naive.url)
        attack = ("--suite", "registry", *how_much, "--kept", given.kept, "--draws", given.draws, "--out", leakage)
        await deltaserve("leakage", *sides, *attack, accepted=(Status.OK, Status.FAILED))
    written = ("--out", out / "index.html", "--card", out / "card.md", "--title", TITLE)
    await deltaserve("report", "--evaluation", evaluation, "--leakage", leakage, *written)


async def deltaserve(*arguments: object, accepted: Sequence[int] = (Status.OK,)) -> None:
    """One command, printed first. Raises Stop with its exit status."""
    words = [str(argument) for argument in arguments]
    sys.stdout.write(f"\n$ deltaserve {' '.join(words)}\n")
    sys.stdout.flush()
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "deltaserve", *words, stdin=subprocess.DEVNULL)
    try:
        status = await process.wait()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    if status not in accepted:
        raise Stop(f"deltaserve {words[0]} ended with status {status}.", Status(status))


if __name__ == "__main__":
    sys.exit(main())
