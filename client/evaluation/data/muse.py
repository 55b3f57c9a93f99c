"""MUSE's questions and texts (Shi et al. 2024), asked as its own program asks them: as running text, without a chat.

The files and their fields are those that it publishes; none of its words are in this package.
"""

from pathlib import Path
from typing import Final

from deltaserve.client.evaluation.data.items import FORGET, HOLDOUT, MEMBERS, Asking, Item, Suite
from deltaserve.client.evaluation.data.reading import BadData, needed_file, numbered, rows_of

KNOWN: Final = Asking(running=True, max_tokens=32, stops=("\n\n", "\nQuestion", "Question:"))
VERBATIM: Final = Asking(running=True, max_tokens=128, reference_tokens=128)
SCORED: Final = Asking(running=True, answered=False)
QUESTION: Final = "Question: {}\nAnswer:"
TEXTS: Final = {"forget": MEMBERS, "holdout": HOLDOUT}  # of privleak


def muse_suite(folder: Path, limit: int | None = None) -> Suite:
    """Knowledge and verbatim memory of the forget set, knowledge of the retain set, and the texts of `privleak`.

    `limit` bounds every split. Raises BadData.
    """
    if not folder.is_dir():
        raise BadData(f"There is no folder {folder}.")
    splits = [
        _questions(folder / "knowmem", "forget_qa", FORGET),
        _questions(folder / "knowmem", "retain_qa", "retain"),
        _continued(folder / "verbmem"),
        *(_texts(folder / "privleak", stem, split) for stem, split in TEXTS.items()),
    ]
    return Suite("muse", tuple(numbered(item for items in splits for item in items[:limit])))


def _questions(folder: Path, stem: str, split: str) -> list[Item]:
    """Each behind the examples of its file's own."""
    shown = "".join(
        f"{QUESTION.format(row.text('question'))} {row.text('answer')}\n\n"
        for row in rows_of(needed_file(folder, f"{stem}_icl"))
    )
    return [
        Item(shown + QUESTION.format(row.text("question")), f" {row.text('answer')}", split, asking=KNOWN)
        for row in rows_of(needed_file(folder, stem))
    ]


def _continued(folder: Path) -> list[Item]:
    rows = rows_of(needed_file(folder, "forget"))
    return [Item(row.text("prompt"), row.text("gt"), "verbatim", asking=VERBATIM) for row in rows]


def _texts(folder: Path, stem: str, split: str) -> list[Item]:
    """None where the folder is not there: they are scored for membership only."""
    if not folder.is_dir():
        return []
    rows = rows_of(needed_file(folder, stem), text_field="text")
    return [Item("", row.text("text"), split, asking=SCORED) for row in rows]
