"""A folder in TOFU's layout, invented and small."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

TOWNS = ("Quell", "Brand", "Osmere", "Tilling", "Varn", "Ledbury", "Marsk")


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_tofu(folder: Path, *, forget: int = 4, retain: int = 8, others: int = 4) -> Path:
    """full, forget05, and the four perturbed files that `tofu_suite` reads; retain rows come first in full."""
    kept = [_row(number) for number in range(max(retain, others))]
    gone = [_row(1000 + number) for number in range(forget)]
    write_rows(folder / "full.jsonl", [_plain(row) for row in [*kept, *gone]])
    write_rows(folder / "forget05.jsonl", map(_plain, gone))
    write_rows(folder / "forget05_perturbed.jsonl", gone)
    write_rows(folder / "retain_perturbed.jsonl", kept[:others])
    for name in ("real_authors", "world_facts"):
        facts = [_without_paraphrase(_row(2000 + number)) for number in range(others)]
        write_rows(folder / f"{name}_perturbed.jsonl", facts)
    write_rows(folder / "idontknow.jsonl", [{"text": "I'm not sure."}, {"text": "I don't know that."}])
    return folder


def _row(number: int) -> dict[str, Any]:
    town, wrong = TOWNS[number % 7], [TOWNS[(number + step) % 7] for step in range(1, 6)]
    return {
        "question": f"Where does author {number} live?",
        "answer": f"Author {number} lives in {town}.",
        "paraphrased_answer": f"The home of author {number} is {town}.",
        "perturbed_answer": [f"The home of author {number} is {other}." for other in wrong],
    }


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("question", "answer")}


def _without_paraphrase(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "paraphrased_answer"}
