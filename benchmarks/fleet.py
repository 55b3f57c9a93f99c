"""How a fleet grows, simulated from what one replica was measured to cost; writes build/bench/scaling.json.

python -m benchmarks.fleet                                     1 to 1,000 replicas with one H200 each; two minutes
python -m benchmarks.fleet --costs build/bench/gpu.json        with what bench-gpu (or bench-serving) measured
python -m benchmarks.fleet --trace bursty --replicas 16 --kill 2 --cut-off 1
python -m benchmarks.fleet --need 100,1000,10000               how many replicas so many streams need
python -m benchmarks.fleet --measured                          against 1, 2 and 4 real replicas on this machine
"""

import argparse
import gc
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.scaling.arrivals import TRACES
from benchmarks.scaling.costs import Costs, read
from benchmarks.scaling.machines import Pace
from benchmarks.scaling.swapping import measured, p50_p99
from benchmarks.scaling.world import Plan, Tally, World
from benchmarks.support import report

COSTS: Final = Path(__file__).parent / "data" / "costs"
SIZES: Final = (1, 2, 4, 16, 64, 256, 1000)
PACES_MS: Final = (10, 15, 25, 40)
_USED: Final = 0.8
COLUMNS: Final = {
    "replicas": "replicas",
    "boxes": "black boxes",
    "streams": "streams",
    "tokens_per_s": "tokens/s",
    "replica_s_per_mtok": "replica-seconds a million tokens",
    "pace": "pace ÷ black box",
    "first_ms_p99": "first token, p99, ms",
    "swap_s_p99": "a swap holds everywhere, p99, s",
    "restart_hits": "restarts that find their prefix",
    "call_hits": "calls that do",
    "refused": "refused",
    "torn": "torn",
}
_FEW, _MANY = 16, 64  # replicas: fewer than so many are looked at for longer, since they answer fewer people
Row = dict[str, Any]


def plan_of(args: argparse.Namespace, replicas: int, costs: Costs, pace: Pace) -> Plan:
    """People enough for `load` of the streams that the replicas carry; black boxes enough for all of these."""
    streams, counted_s = replicas * costs.carries(pace.token_s), args.seconds * _FEW / min(replicas, _MANY)
    answer_s = args.answer * pace.token_s
    return Plan(
        replicas,
        boxes=math.ceil(streams / pace.slots),
        sessions=max(1, round(args.load * streams * (answer_s + args.think_s) / answer_s)),
        seconds=args.warm_s + counted_s,
        warm_s=args.warm_s,
        affinity=not args.no_affinity,
        retry=not args.no_retry,
        trace=TRACES[args.trace],
        think_s=args.think_s,
        answer=args.answer,
        killed=min(args.kill, replicas - 1),
        cut_off=min(args.cut_off, max(replicas - 1 - args.kill, 0)),
        fault_s=args.warm_s + 2.0,
        healed_s=args.warm_s + 2.0 + args.contact_s + 10.0,
        contact_s=args.contact_s,
        run=32 if replicas <= _MANY else 256,
        seed=args.seed,
    )


def row_of(plan: Plan, costs: Costs, pace: Pace, tally: Tally) -> Row:
    seconds = plan.seconds - plan.warm_s
    per_s = tally.tokens / seconds
    return {
        "replicas": plan.replicas,
        "boxes": plan.boxes,
        "streams": plan.replicas * costs.carries(pace.token_s),
        "tokens_per_s": round(per_s),
        "replica_s_per_mtok": 1e6 * plan.replicas / per_s,
        "first_ms_p99": 1e3 * report.quantile(tally.first_s, 0.99),
        "restart_hits": _share(tally.restart_hits, tally.restarts),
        "call_hits": _share(tally.call_hits, tally.calls),
        "refused": tally.refused,
        "torn": tally.torn,
        "answers": tally.answers,
    }


def simulated(args: argparse.Namespace, costs: Costs, pace: Pace) -> list[Row]:
    holding = measured(args.drilled)
    rows = []
    for replicas in args.replicas:
        plan = plan_of(args, replicas, costs, pace)
        row = row_of(plan, costs, pace, World(plan, costs, pace).run())
        row["swap_s_p50"], row["swap_s_p99"] = p50_p99(replicas, holding)
        print(f"{replicas} replicas: {row['tokens_per_s']} tokens/s", flush=True)
        rows.append(row)
    return rows


def needs(streams: Sequence[int], costs: Costs) -> list[Row]:
    """Replicas for so many streams at a time, by the black box's pace; four fifths of what they carry is used."""
    return [
        {"ms a token": pace_ms, "one replica carries": costs.carries(1e-3 * pace_ms)}
        | {f"{n} streams": math.ceil(n / (_USED * costs.carries(1e-3 * pace_ms))) for n in streams}
        for pace_ms in PACES_MS
    ]


def figures_of(rows: Sequence[Row]) -> dict[str, float]:
    each = [row["replica_s_per_mtok"] for row in rows]
    return {
        "cost_spread": max(each) / min(each) - 1,
        "swap_s_p99_simulated": rows[-1]["swap_s_p99"],
        "restart_hits": rows[-1]["restart_hits"],
        "refused": rows[-1]["refused"],
    }


def _share(some: int, of: int) -> float:
    return some / of if of else float("nan")


def main() -> None:
    args = _arguments()
    pace = Pace(token_s=1e-3 * args.pace_ms, first_s=1e-3 * args.first_ms, slots=args.slots)
    costs = read(args.costs)
    if args.need:
        rows = needs(args.need, costs)
        report.show(f"replicas: {costs.what}", list(rows[0]), [list(row.values()) for row in rows])
        return
    if args.measured:
        from benchmarks.scaling.measured import compare

        rows, figures = compare(pace)
        name, columns = "scaling-measured", {column: column for column in rows[0]}
    else:
        rows = simulated(args, costs, pace)
        name, figures = "scaling", figures_of(rows)
        columns = {column: title for column, title in COLUMNS.items() if column in rows[0]}
    report.show(
        costs.what if not args.measured else "measured and simulated",
        list(columns.values()),
        [[row[c] for c in columns] for row in rows],
    )
    report.show("figures", ["figure", "value"], figures.items())
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    print(report.write(name, figures, settings, rows))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--costs", type=Path, default=COSTS / "h200.json", help="of one replica; what bench-gpu or bench-serving wrote")
    add("--drilled", type=Path, metavar="FILE", help="what drill-fleet wrote; default: the figures of docs/fleet.md")
    add("--replicas", type=_sizes, default=SIZES, metavar="N,N,…", help="1 to 1,000")
    add("--trace", choices=TRACES, default="steady")
    add("--no-affinity", action="store_true", help="any replica, and any black box for each call")
    add("--no-retry", action="store_true", help="the proxy passes on the 503 of a replica that refuses")
    add("--load", type=float, default=0.8, help="people, as a share of those whose streams the replicas carry")
    add("--pace-ms", type=float, default=25.0, help="of a black box, a token")
    add("--first-ms", type=float, default=40.0, help="to its first token, without the prompt's computation")
    add("--slots", type=int, default=64, help="streams that a black box runs at full speed")
    add("--answer", type=int, default=200, help="tokens of an answer, on average")
    add("--think-s", type=float, default=5.0, help="between an answer and the next question, on average")
    add(
        "--seconds", type=float, default=16.0, help="that are counted, of 16 replicas; of fewer longer, of more shorter"
    )
    add("--warm-s", type=float, default=16.0, help="before these")
    add("--kill", type=int, default=0, metavar="N", help="replicas that are killed two seconds after the warm-up")
    add("--cut-off", type=int, default=0, metavar="N", help="replicas that lose the fleet's store then")
    add("--contact-s", type=float, default=30.0, help="after which these are fenced")
    add("--seed", type=int, default=1)
    add("--need", type=_counts, metavar="N,N,…", help="only tells how many replicas so many streams need")
    add("--measured", action="store_true", help="real replicas, each on one core, beside the simulation of the same")
    return parser.parse_args()


def _counts(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _sizes(text: str) -> tuple[int, ...]:
    sizes = _counts(text)
    if not all(1 <= size <= 1000 for size in sizes):
        raise argparse.ArgumentTypeError("fleets of 1 to 1,000 replicas are simulated")
    return sizes


if __name__ == "__main__":
    gc.disable()  # looking through millions of small objects for circles would take half the time
    main()
