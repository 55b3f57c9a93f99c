"""Suites from files: TOFU's folder, or one's own. Split names decide what is made of them (docs/evaluation.md)."""

import re
from pathlib import Path
from typing import Final

from deltaserve.client.evaluation.data.items import FORGET, HOLDOUT, Suite
from deltaserve.client.evaluation.data.reading import BadData, data_files, find_file, read_attack_items, read_items

TOFU_FILES: Final = {
    "retain": "retain_perturbed",
    "real_authors": "real_authors_perturbed",
    "world_facts": "world_facts_perturbed",
}
_FORGET_FILE: Final = re.compile(r"(forget\d+)_perturbed")


def tofu_suite(folder: Path, forget: str | None = None, limit: int | None = None) -> Suite:
    """TOFU's evaluation rows: forgetXX_perturbed, retain_perturbed, real_authors_perturbed, world_facts_perturbed,
    and `holdout` where the folder has one.

    `forget` names the forget set (`forget05`) where there is more than one; `limit` bounds every split but that one,
    on whose size the Kolmogorov–Smirnov test depends. Raises BadData.
    """
    _refuse_absent(folder)
    items = read_items(_perturbed(folder, _forget_set(folder, forget)), FORGET)
    for split, stem in TOFU_FILES.items():
        items += read_items(_perturbed(folder, stem.removesuffix("_perturbed")), split)[:limit]
    if holdout := find_file(folder, HOLDOUT):
        items += read_items(holdout, HOLDOUT)
    return _checked(Suite("tofu", tuple(items)))


def custom_suite(path: Path, limit: int | None = None) -> Suite:
    """One file, or every file of a folder; rows that name no split are of the one named as the file. Raises BadData."""
    _refuse_absent(path)
    files = data_files(path) if path.is_dir() else [path]
    if not files:
        raise BadData(f"{path.name} holds no .jsonl file.")
    items = [item for file in files for item in read_items(file, file.stem, own_splits=True)]
    return Suite("custom", tuple(item for item in items if limit is None or item.index < limit))


def attack_suite(path: Path) -> Suite:
    """The items of one file, to be attacked. Raises BadData."""
    items = read_attack_items(path)
    if not any(item.split == FORGET for item in items):
        raise BadData(f"{path.name} holds no item to be forgotten (split 'forget').")
    if len({item.key for item in items}) < len(items):
        raise BadData(f"{path.name} holds two items with one id, or the same question twice.")
    return Suite(path.stem, tuple(items))


def _refuse_absent(path: Path) -> None:
    if not path.exists():
        raise BadData(f"There is no {path}.")


def _forget_set(folder: Path, wanted: str | None) -> str:
    names = [match[1] for path in data_files(folder) if (match := _FORGET_FILE.fullmatch(path.stem))]
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted in names:
        return str(wanted)
    if not names:
        raise BadData(f"{folder.name} has no forgetXX_perturbed.jsonl; is it a folder of TOFU's files?")
    raise BadData(f"Say which forget set: --forget {' or --forget '.join(names)}.")


def _perturbed(folder: Path, stem: str) -> Path:
    path = find_file(folder, f"{stem}_perturbed")
    if path is None:
        raise BadData(f"{folder.name} has no {stem}_perturbed.jsonl.")
    return path


def _checked(suite: Suite) -> Suite:
    for item in suite.items:
        if item.split != HOLDOUT and not item.perturbed_answers:
            raise BadData(f"The {item.split} split has a row without `perturbed_answer`, which TOFU's figures need.")
    return suite
