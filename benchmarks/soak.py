"""Hours in small: streams, faults of the black box and swaps, all at once; what is torn, wrong, or held at the end.

python -m benchmarks.soak [--minutes 20] [--streams 64] [--faults 0.05] [--swap-every-s 10]

Before the faults every answer is asked for once, alone, of each version: that is what it must say later. The clients
ask greedy and seeded. Writes build/bench/soak.json.
"""

import argparse
import asyncio
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.soaking.clients import Clients
from benchmarks.soaking.residence import Sample, Watch, files_left, held_afterwards, open_files, slope_mb_per_hour
from benchmarks.soaking.storm import Storm
from benchmarks.soaking.swaps import Swaps
from benchmarks.support import report
from benchmarks.support.processes import WEIGHTS, Running, black_box
from benchmarks.swap.server import ADMIN_KEY, SERVED, server
from benchmarks.swap.site import NAMES, Site, make_site
from benchmarks.swap.streams import Ask, Known, asks, decoded_alone
from deltaserve.client.admin import AsyncAdminClient

SEEDS: Final = 2  # for each prompt
BETWEEN_TOKENS_S: Final = 5.0  # a black box that hangs is left after so long
FIRST_TOKEN_S: Final = 20.0
_TELLS_EVERY_S: Final = 30.0
Figures = dict[str, Any]


def main() -> None:
    args = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        figures, samples = run(Path(folder), args)
    report.show("soak", ("figure", "value"), list(figures.items()))
    settings = {name: str(value) for name, value in vars(args).items()}
    print(report.write("soak", figures, settings, {"resident_mb": samples}))


def run(folder: Path, args: argparse.Namespace) -> tuple[Figures, list[Sample]]:
    """The figures, and resident memory along the way."""
    site = make_site(folder, black_box=args.weights / "blackbox", base=args.weights / "base")
    bounds = {
        "max_streams": args.streams + 8,  # clients that have left give their places back a moment later
        "max_queue": args.streams,
        "workers": args.workers,
        "between_tokens_timeout_s": BETWEEN_TOKENS_S,
        "first_token_timeout_s": FIRST_TOKEN_S,
        "log_level": args.log_level,
    }
    pace = ("--ms-per-token", str(args.ms_per_token), "--slots", str(4 * args.streams))
    with (
        black_box(*pace, weights=args.weights) as upstream,
        server(site, upstream.url, folder / "state", **bounds) as running,
    ):
        return asyncio.run(_soaked(running, upstream.url, site, args))


async def _soaked(
    running: Running, upstream: str, site: Site, args: argparse.Namespace
) -> tuple[Figures, list[Sample]]:
    wanted = _wanted(site, args.tokens)
    async with AsyncAdminClient(running.url, api_key=ADMIN_KEY) as admin:
        known = await _known(running.url, admin, wanted)
        files = await asyncio.to_thread(open_files, running)
        clients = Clients(running.url, wanted, known, args.streams)
        storm, swaps = Storm(upstream, args.faults), Swaps(admin, args.swap_every_s)
        watch = Watch(running, told=_teller(clients))
        async with clients, storm, swaps, watch:
            await asyncio.sleep(60 * args.minutes)
        held = await held_afterwards(running, upstream)
        left = await files_left(running, files)
    tally = clients.tally
    figures = {
        "torn": tally.torn,
        "wrong_tokens": tally.wrong_tokens,
        "whole_and_wrong": tally.whole_and_wrong,
        "leaked_slots": held.slots,
        "leaked_upstream_calls": held.calls,
        "idle_s": held.idle_s,
        "leaked_files": left,
        "resident_slope_mb_per_hour": slope_mb_per_hour(watch.samples),
        **_resident(watch.samples),
        "answers": tally.answers,
        "tokens": tally.tokens,
        "left_by_clients": tally.left,
        "longest_answer_s": tally.longest_s,
        "faults": storm.met,
        "swaps": swaps.done,
        "reloads": swaps.reloads,
        **{f"ended_by_{code}": count for code, count in tally.ended.items()},
        **await asyncio.to_thread(_calls, running),
    }
    return figures, watch.samples


def _wanted(site: Site, tokens: int) -> list[Ask]:
    """Of each prompt one greedy answer and some seeded ones."""
    return [*asks(site.prompts, 1, tokens, temperature=0.0), *asks(site.prompts, SEEDS, tokens, temperature=0.7)]


async def _known(url: str, admin: AsyncAdminClient, wanted: list[Ask]) -> Known:
    for name in NAMES:
        await admin.load(name, name)
    return await decoded_alone(url, wanted, [f"{SERVED}@{name}" for name in NAMES])


def _resident(samples: list[Sample]) -> Figures:
    sizes = [megabytes for _, megabytes in samples]
    quarter = max(len(sizes) // 4, 1)
    names = ("first", "second", "third", "last")
    return {
        f"resident_mb_{name}_quarter": report.median(sizes[at * quarter :][:quarter]) for at, name in enumerate(names)
    }


def _calls(running: Running) -> Figures:
    """To the black box, as the server counts them."""
    metrics = running.metrics()
    return {"upstream_calls": metrics["deltaserve_upstream_calls_total"]}


def _teller(clients: Clients) -> Any:
    """A line now and then."""
    next_at = 0.0

    def tell(sample: Sample) -> None:
        nonlocal next_at
        at, megabytes = sample
        if at >= next_at:
            next_at += _TELLS_EVERY_S
            shown = {name: value for name, value in asdict(clients.tally).items() if name != "ended"}
            print(f"{at:6.0f} s  {megabytes:7.1f} MB  {shown}  {dict(clients.tally.ended)}", flush=True)

    return tell


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--faults", type=float, default=0.05, help="share of the calls to the black box that meet one")
    parser.add_argument("--swap-every-s", type=float, default=10.0)
    parser.add_argument("--tokens", type=int, default=32, help="of one answer")
    parser.add_argument("--workers", type=int, default=0, help="front-ends")
    parser.add_argument("--ms-per-token", type=float, default=40.0, help="the black box's pace")
    parser.add_argument("--log-level", default="error", help="of the server, on stderr")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder with blackbox/ and base/")
    return parser.parse_args()


if __name__ == "__main__":
    main()
