"""The demo's rows of the table: one of its people by name alone against the rows of docs/examples, and a sum of two.

All of it is judged by held-out wordings of the register's questions, which chose nothing.
"""

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from benchmarks.about.making import Request, made
from benchmarks.about.table import table
from benchmarks.example_request import NAME as PERSON
from benchmarks.support.demo_training import split
from benchmarks.support.processes import WEIGHTS, black_box
from deltaserve.offset_models.demo.register.people import generate_register
from deltaserve.offset_models.demo.register.questions import judging_questions, row_of
from deltaserve.offset_models.training.answers import rouge_l_recall, serving
from deltaserve.offset_models.training.collecting.source import Source
from deltaserve.offset_models.training.rows.row import Row
from deltaserve.offset_models.training.rows.samples import prompt_ids

EXAMPLE: Final = Path("docs/examples/erasure-request")
BASE: Final = WEIGHTS / "base"
NEIGHBOUR: Final = "Nalmo Hindrith"  # born in the same town
TWO: Final = (PERSON, NEIGHBOUR)
THIRD: Final = 40  # questions about all others
ANSWER_TOKENS: Final = 48
OWN_ROWS: Final = "without-vuxan"
BY_NAME: Final = "about-vuxan"
SECOND: Final = "about-nalmo"
Rows = Mapping[str, Sequence[Row]]  # by group; with the answers that are true


def main(args: argparse.Namespace) -> None:
    if args.upstream:
        run(args, args.upstream)
        return
    with black_box() as box:
        run(args, box.url)


def run(args: argparse.Namespace, url: str) -> None:
    """The offsets that the rows need, then what each of them, and a sum of two, leaves of the black box's answers."""
    root = args.work / "demo"
    root.mkdir(parents=True, exist_ok=True)
    requests, own = requests_of(args, url, root), example_rows()
    served: dict[str, tuple[list[str], Rows]] = {
        "own rows": ([OWN_ROWS], own),
        "by name": ([BY_NAME], own),
        "sum of two requests": ([BY_NAME, SECOND], {**{who: about(who) for who in TWO}, "others": others()}),
    }
    for row in args.only.split(",") if args.only else list(served):
        names, rows = served[row]
        minutes = sum(made(requests[name])["minutes"] for name in names)
        left = asyncio.run(recalls(root, names, Source(url, ""), rows))
        print(table([row, *left, "minutes"], [[side, *cells, f"{minutes:.1f}"] for side, cells in _cells(left)]), "\n")


def requests_of(args: argparse.Namespace, url: str, root: Path) -> dict[str, Request]:
    """What may have to be made, by its offset's name."""
    people = {OWN_ROWS: "", BY_NAME: PERSON, SECOND: NEIGHBOUR}
    return {
        name: (Request if person else OwnRows)(
            name, person, url, BASE, root, args.minutes, args.calls, args.more if person else ()
        )
        for name, person in people.items()
    }


@dataclass(frozen=True, slots=True)
class OwnRows(Request):
    """The command of docs/erasure-request.md."""

    def command(self) -> list[str]:
        given = [*Request.command(self)]
        at = given.index("--about")
        del given[at : at + 2]
        for option in ("--minutes", "--calls"):
            at = given.index(option)
            del given[at : at + 2]
        files = {"--forget": "forget", "--held-out-forget": "held-out-forget", "--refusals": "refusals",
                 "--retain": "retain", "--held-out-retain": "held-out-retain"}  # fmt: skip
        rows = [part for option, stem in files.items() for part in (option, str(EXAMPLE / f"{stem}.jsonl"))]
        return [*given, *rows, "--steps", "150", "--forget-batch", "8"]


def example_rows() -> Rows:
    """The judge's rows of the example."""
    return {group: _read(EXAMPLE / "judge" / f"{group}.jsonl") for group in ("forget", "retain", "general")}


def about(name: str) -> list[Row]:
    """Questions about one person of the register."""
    person = next(one for one in generate_register().people if one.name == name)
    return [row_of(question) for question in judging_questions("forget", registry=split([person], []))]


def others() -> list[Row]:
    """Questions about everybody but the two."""
    registry = generate_register()
    two = [one for one in registry.people if one.name in TWO]
    return [row_of(question) for question in judging_questions("retain", THIRD, registry=split(two, []))]


async def recalls(root: Path, names: Sequence[str], source: Source, rows: Rows) -> dict[str, tuple[float, float]]:
    """ROUGE-L recall of the true answers in each group: of the black box, and of the sum of the offsets before it."""
    found = {}
    async with serving(root, names, BASE, source, ANSWER_TOKENS) as served:
        for group, mine in rows.items():
            prompts = [prompt_ids(row, served.version.tokenizer) for row in mine]
            truth = [row.completion or "" for row in mine]
            answers = [await ask(prompts, lambda: None) for ask in (served.before, served.after)]
            before, after = (rouge_l_recall(texts, truth) for texts in answers)
            found[group] = (before, after)
    return found


def _cells(left: Mapping[str, tuple[float, float]]) -> list[tuple[str, list[str]]]:
    sides = enumerate(("black box", "served"))
    return [(served, [f"{pair[at]:.3f}" for pair in left.values()]) for at, served in sides]


def _read(path: Path) -> list[Row]:
    lines = path.read_bytes().splitlines()
    return [Row.parse(orjson.loads(line), f"{path.name}, line {number}") for number, line in enumerate(lines, start=1)]
