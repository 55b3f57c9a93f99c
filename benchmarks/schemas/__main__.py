"""Structured answers, judged by an independent validator.

python -m benchmarks.schemas                             200 schemas of our own, from a server with the demo's models
python -m benchmarks.schemas --suite DIR                 JSON Schema's test suite too: DIR has draft4 and others
python -m benchmarks.schemas --suite DIR --part walks    only what needs no server: instances, and random walks
"""

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

from llguidance import LLMatcher

from benchmarks.schemas import table
from benchmarks.schemas.checking import VALIDATORS, fault
from benchmarks.schemas.own import own_schemas
from benchmarks.schemas.serving import Asked, Judge
from benchmarks.schemas.suite import Case, cases
from benchmarks.schemas.walking import matcher, takes, walk
from benchmarks.support import report
from benchmarks.support.processes import WEIGHTS, black_box, deltaserve
from deltaserve.errors import BadRequest
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.grammars.json_schema import json_grammar

SERVED = "draft2020-12"  # of the suite; the other drafts say the same in other words
Ways = dict[tuple[str, int, float, float, bool], Counter[str]]

WALKS = 20
KS, STRENGTHS, TEMPERATURES = (20, 5), (0.0, 1.0), (0.0, 1.0)


def walk_through(suite: list[Case]) -> tuple[dict[str, Counter[str]], list[Asked], list[str]]:
    """By file: instances and walks; the schemas that are taken; what went wrong."""
    files: dict[str, Counter[str]] = {}
    taken, faults = [], []
    for case in suite:
        counts = files.setdefault(case.file, Counter())
        counts["schemas"] += 1
        try:
            start = matcher(json_grammar(case.schema).text)
        except (BadRequest, ValueError):
            continue
        counts["taken"] += 1
        taken.append(Asked(f"{case.file}: {case.description}", case.schema, case.draft))
        faults += _walk(case, start, counts)
    return files, taken, faults


def _walk(case: Case, start: LLMatcher, counts: Counter[str]) -> Iterator[str]:
    for kind, instances in (("valid", case.valid), ("invalid", case.invalid)):
        counts[kind] += len(instances)
        said = [text for text in map(_text, instances) if takes(start, text)]
        counts[f"{kind} taken"] += len(said)
        if kind == "invalid":
            yield from (f"{case.file}: {case.description}: invalid, but taken: {text}" for text in said)
    rng = Random(case.description)
    for _ in range(WALKS):
        found = walk(start, rng)
        counts["walks"] += found.ended
        why = fault(case.schema, found.text.decode(), case.draft) if found.ended else None
        if found.dead or why is not None:
            counts["invalid walks"] += 1
            yield f"{case.file}: {case.description}: {why or 'nothing is allowed'}: {found.text[:200]!r}"


def _text(instance: object) -> str:
    return json.dumps(instance, ensure_ascii=False)


def serve_all(groups: dict[str, list[Asked]], args: argparse.Namespace) -> tuple[Ways, list[str]]:
    """Every schema from servers with each k and α, greedy and sampled, streamed and whole."""
    ways: Ways = {}
    faults: list[str] = []
    tokenizer = Tokenizer.load(WEIGHTS / "base")
    with black_box() as box:
        for turn, (k, strength) in enumerate(itertools.product(KS, STRENGTHS)):
            flags = ("--upstream-k", str(k), "--strength", str(strength), "--no-playground")
            with deltaserve(box.url, *flags) as server:
                judge = Judge.of(server.url, tokenizer)
                for (of, schemas), (n, t) in itertools.product(groups.items(), enumerate(TEMPERATURES)):
                    begun, few = time.monotonic(), _spread(schemas, args.limit, len(TEMPERATURES) * turn + n)
                    whole, streamed = (asyncio.run(judge.judge(few, t, stream)) for stream in (False, True))
                    streamed.counts["unlike whole"] = streamed.unlike(whole)
                    for stream, judged in ((False, whole), (True, streamed)):
                        ways[of, k, strength, t, stream] = judged.counts
                        faults += judged.faults
                    took, both = time.monotonic() - begun, whole.counts + streamed.counts
                    print(f"{of}, k {k}, α {strength:g}, T {t:g}: {took:.0f} s, {dict(both)}", file=sys.stderr)
    return ways, faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", type=Path, help="the folder `tests` of JSON Schema's test suite")
    parser.add_argument(
        "--drafts", nargs="+", default=list(VALIDATORS), help="which of the suite's drafts are walked through"
    )
    parser.add_argument("--part", choices=("both", "walks"), default="both")
    parser.add_argument(
        "--limit", type=int, help="schemas of each kind in each way, others in the next one; default: all"
    )
    args = parser.parse_args()
    own = [Asked(name, schema) for name, schema in own_schemas()]
    files, taken, faults = walk_through([*(cases(args.suite, args.drafts) if args.suite else ()), *_as_cases(own)])
    print(table.walked(files), end="\n\n")
    groups = {"own": own, "suite": [asked for asked in taken if asked.draft == SERVED]}
    ways: Ways = {}
    if args.part == "both":
        ways, wrong = serve_all({name: schemas for name, schemas in groups.items() if schemas}, args)
        faults += wrong
        print(table.served(ways), end="\n\n")
    print("\n".join(faults) or "Nothing was invalid.")
    rows = [{"file": name, **counts} for name, counts in files.items()]
    rows += [{"way": list(way), **counts} for way, counts in ways.items()]
    figures = {name: float(sum(c[name] for c in ways.values())) for name in table.COUNTS}
    report.write("schemas", figures, {"drafts": args.drafts, "limit": args.limit}, rows)


def _spread(schemas: list[Asked], limit: int | None, way: int) -> list[Asked]:
    """At most `limit` of them, from all parts of the list; other ones in the next way, until all had their turn."""
    step = 1 if limit is None else max(1, -(-len(schemas) // limit))
    return schemas[way % step :: step]


def _as_cases(own: list[Asked]) -> Iterator[Case]:
    return (Case(None, f"own: {one.name[:-3]}", one.name, one.schema, (), ()) for one in own)


if __name__ == "__main__":
    main()
