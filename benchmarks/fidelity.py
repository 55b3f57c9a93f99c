"""How close a top-k correction comes to full-vocabulary δ-unlearning, position by position, for k and tail policy.

python -m benchmarks.fidelity                          the demo pair; the whole vocabulary is listed
python -m benchmarks.fidelity --part named             with and without ids that are asked for by name
python -m benchmarks.fidelity --url URL --root DIR --offset NAME --k-oracle 2000
"""

import argparse
import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.support import named as by_name
from benchmarks.support import report
from benchmarks.support.local import LocalPair
from benchmarks.support.processes import WEIGHTS, black_box
from deltaserve.offset_models.demo.register.questions import Split, evaluation_questions
from deltaserve.server.decoding.correction import correct
from deltaserve.server.decoding.deciding.naming import names_wanted, with_names
from deltaserve.server.decoding.history import History
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Naming
from deltaserve.server.decoding.protocols import Floats, OffsetRow, Proposal
from deltaserve.server.decoding.sampling import target

KS = (1, 5, 20, 100)
Way = Literal["impute", "truncate", "named"]  # a tail policy, or `impute` with ids that are asked for by name
WAYS: tuple[Way, ...] = ("impute", "truncate", "named")
NAMING = Naming(tail=0.1, certify=True)
GREEDY = SamplingParams(max_tokens=48, temperature=0.0)
FIGURES = ("greedy_agreement", "total_variation", "certified", "tail_mass")
NAMED_KS = (5, 20)
NAMED_FIGURES = (
    "uncertified_per_100", "greedy_agreement", "total_variation", "calls_per_100", "named_calls_per_100",
    "added_per_100",
)  # fmt: skip


async def positions(pair: LocalPair, questions: Sequence[str]) -> list[tuple[Proposal, OffsetRow]]:
    """Every position of the corrected greedy answers, with the widest list that the black box gives."""
    params = replace(GREEDY, eos_ids=pair.backends.end_ids(pair.version))
    answers = await by_name.answered(pair, by_name.Way(pair.box.capabilities.k, "off"), questions, params)
    return [(proposal, row) for answer in answers for _, proposal, row in answer.seen]


def cut(proposal: Proposal, k: int) -> Proposal:
    return Proposal(proposal.token_id, proposal.top_ids[:k], proposal.top_logprobs[:k])


def known_of(proposal: Proposal, row: OffsetRow, k: int, way: Way) -> Proposal:
    """The first k of a wide list, and what would be asked for by name."""
    listed = cut(proposal, k)
    if way != "named":
        return listed
    names = names_wanted(listed, target(correct(listed, row), GREEDY, History(GREEDY, ())), NAMING)
    numbers = dict(zip(proposal.top_ids.tolist(), proposal.top_logprobs.tolist(), strict=True))
    return with_names(listed, names, np.array([numbers[i] for i in names.tolist()])) if names.size else listed


def figures_at(seen: Sequence[tuple[Proposal, OffsetRow]], k: int, way: Way) -> dict[str, float]:
    agreed, distances, certified, wrong, tails, asked = [], [], [], [], [], []
    for proposal, row in seen:
        whole, known = correct(proposal, row), known_of(proposal, row, k, way)
        part = correct(known, row, "impute" if way == "named" else way)
        asked.append(known.named)
        oracle, found = (target(c, GREEDY, History(GREEDY, ())) for c in (whole, part))
        best = found.best(proposal.token_id) == oracle.best(proposal.token_id)
        agreed.append(best)
        certified.append(found.certified)
        wrong.append(found.certified and not best)
        distances.append(0.5 * float(np.abs(_probs(whole.dense()) - _probs(part.dense())).sum()))
        tails.append(part.tail_mass)
    return {
        "greedy_agreement": float(np.mean(agreed)),
        "total_variation": float(np.mean(distances)),
        "worst": max(distances),
        "certified": float(np.mean(certified)),
        "certified_and_wrong": float(np.sum(wrong)),
        "tail_mass": float(np.mean(tails)),
        "asked": float(np.mean(asked)),
    }


def _probs(weights: Floats) -> Floats:
    probs = np.exp(weights - weights.max())
    share: Floats = probs / probs.sum()
    return share


async def run(pair: LocalPair, limit: int, questions: dict[str, Sequence[str]]) -> list[dict[str, Any]]:
    rows = []
    for split, texts in questions.items():
        seen = await positions(pair, texts[:limit])
        for way in WAYS:
            for k in KS:
                rows.append({"questions": split, "policy": way, "k": k, "positions": len(seen)})
                rows[-1] |= figures_at(seen, k, way)
    return rows


async def main_async(args: argparse.Namespace) -> None:
    splits: tuple[Split, ...] = ("forget", "retain")
    questions: dict[str, Sequence[str]] = {s: [q.text for q in evaluation_questions(s)] for s in splits}
    if args.questions is not None:
        questions = {"given": args.questions.read_text().splitlines()}
    with ExitStack() as stack:
        url = args.url or stack.enter_context(black_box("--max-logprobs", "-1")).url
        async with LocalPair.open(url, args.root, args.offset, k=args.k_oracle) as pair:
            rows = await run(pair, args.limit, questions) if args.part != "named" else []
            few = {split: texts[: args.limit] for split, texts in questions.items()}
            named, bounds = await by_name.compared(pair, few, NAMED_KS) if args.part != "lists" else ([], [])
    for title, table in (
        ("against the widest list", rows),
        ("with ids that are asked for by name", named),
        ("asking where the tail weighs more than named_tail", bounds),
    ):
        if table:
            report.show(title, list(table[0]), [list(row.values()) for row in table])
    figures = {f"{r['questions']}_{r['policy']}_{r['k']}_{name}": r[name] for r in rows for name in FIGURES}
    figures |= {f"{_name_of(r)}_{n}": r[n] for r in named for n in NAMED_FIGURES}
    print(report.write("fidelity", figures, {"limit": args.limit, "k_oracle": args.k_oracle}, [*rows, *named]))


def _name_of(row: dict[str, Any]) -> str:
    return f"{row['questions']}_t{row['T']:g}_{row['k']}_{row['named']}_{row['of']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a black box that already runs")
    parser.add_argument("--root", type=Path, default=WEIGHTS)
    parser.add_argument("--offset", default="registry-erasure")
    parser.add_argument("--k-oracle", type=int, default=1 << 20, help="as many as the black box lists")
    parser.add_argument("--limit", type=int, default=40, help="questions of each kind")
    parser.add_argument("--part", choices=("both", "lists", "named"), default="both")
    parser.add_argument("--questions", type=Path, help="a file with one question a line, instead of the demo's")
    asyncio.run(main_async(parser.parse_args()))


if __name__ == "__main__":
    main()
