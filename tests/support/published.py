"""Folders in the layouts of RWKU and MUSE, invented and small."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ADA = "Ada Quill"
CHOICES = ["a mill", "a lake", "a boat"]


def probe(query: str, level: int, kind: str, subject: str = ADA) -> dict[str, str]:
    return {"query": query, "answer": "Tormora", "level": str(level), "type": kind, "subject": subject}


def write(path: Path, rows: Sequence[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))


def write_rwku(folder: Path, subjects: Sequence[str] = (ADA,)) -> Path:
    """One probe of each kind and subject, as lists."""
    kinds = {
        "forget_level1": [(1, "cloze")],
        "forget_level2": [(2, "simple question")],
        "forget_level3": [(3, "affirmative suffix"), (3, "incontext learning"), (3, "role play")],
        "neighbor_level1": [(1, "cloze")],
        "neighbor_level2": [(2, "simple question")],
    }
    for stem, rows in kinds.items():
        write(folder / f"{stem}.json", [probe(f"{stem} {k}?", at, k, who) for who in subjects for at, k in rows])
    return folder


def write_muse(folder: Path) -> Path:
    for stem in ("forget_qa", "retain_qa"):
        write(folder / "knowmem" / f"{stem}.json", [{"question": f"{stem}?", "answer": "Tormora"}])
        write(folder / "knowmem" / f"{stem}_icl.json", [{"question": "Shown?", "answer": "Yes"}])
    write(folder / "verbmem" / "forget.json", [{"prompt": "The mill by", "gt": " the lake burned."}])
    write(folder / "privleak" / "forget.json", ["The mill burned."])
    write(folder / "privleak" / "holdout.json", [{"text": "A boat sank."}])
    return folder
