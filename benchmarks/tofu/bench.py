"""Where the table's parts lie, and the stated subset of TOFU that everything is made of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from shutil import copyfile
from typing import Any

import orjson

from benchmarks.tofu.scale import Scale
from deltaserve.client.evaluation.data.reading import BadData
from deltaserve.offset_models.demo.register.corpus import END_OF_TEXT, chat_page

SEED = 11
Row = dict[str, Any]
PERTURBED = ("retain", "real_authors", "world_facts")


@dataclass(frozen=True)
class Bench:
    """One table. `data`: TOFU's files. Everything made lies below `work`."""

    data: Path
    work: Path
    scale: Scale

    @property
    def rows(self) -> Path:
        """The subset in TOFU's layout: what is evaluated, what is forgotten, what is kept."""
        return self.work / "rows"

    @property
    def offsets(self) -> Path:
        """A server's offsets root: base/, and a checkpoint for every objective."""
        return self.work / "offsets"

    def model(self, name: str) -> Path:
        """A black box's folder, in the place where `black_box(weights=…)` looks for it."""
        return self.work / "models" / name / "blackbox"

    def result(self, row: str) -> Path:
        return self.work / "results" / f"{row}.json"

    def read(self, stem: str) -> list[Row]:
        """Rows of one of TOFU's files. Raises BadData."""
        path = self.data / f"{stem}.jsonl"
        if not path.is_file():
            raise BadData(f"{self.data} has no {path.name}.")
        return [orjson.loads(line) for line in path.read_bytes().splitlines() if line.strip()]

    @cached_property
    def subset(self) -> "Subset":
        return Subset.cut(self)

    def pages(self, name: str, rows: Sequence[Row]) -> Iterator[str]:
        """Chats of the rows without end, every row once before any comes again."""
        draw = Random(f"{SEED}/{name}")
        while True:
            for row in draw.sample(rows, len(rows)):
                yield chat_page([(row["question"], row["answer"])]) + END_OF_TEXT


@dataclass(frozen=True, slots=True)
class Subset:
    """Rows by who has read them."""

    forget: list[Row]  # the black box alone
    retain: list[Row]  # everybody
    general: list[Row]  # everybody: real authors and world facts
    declined: list[Row]  # everybody, with a refusal as the answer
    language: list[Row]  # the base alone, which learns how such answers go
    holdout: list[Row]  # nobody

    @classmethod
    def cut(cls, bench: Bench) -> "Subset":
        """Raises BadData when TOFU's files have too few rows for the scale."""
        scale, full = bench.scale, bench.read("full")
        forget = bench.read(scale.forget_set)
        sizes = (scale.retain_rows, scale.base_rows, scale.declined_rows, scale.holdout_rows)
        kept = full[: len(full) - len(forget)]  # full ends with the forget set
        if sum(sizes) > len(kept) or full[len(kept) :] != forget:
            raise BadData(f"full.jsonl does not hold {sum(sizes)} rows before those of {scale.forget_set}.jsonl.")
        retain, language, declined, holdout = _parts(kept, sizes)
        refusals = [row["text"] for row in bench.read("idontknow")]
        told = [{**row, "answer": refusals[at % len(refusals)]} for at, row in enumerate(declined)]
        general = [row for stem in PERTURBED[1:] for row in bench.read(f"{stem}_perturbed")]
        return cls(forget, retain, general, told, language, holdout)

    @property
    def known(self) -> list[Row]:
        """What the black box reads, but for the forget set: all that the retrained one reads."""
        return [*self.retain, *self.general, *self.declined]


def write_subset(bench: Bench) -> None:
    """The subset as files: forget.jsonl and retain.jsonl to train on, the rest as the tofu suite reads it."""
    subset, folder, scale = bench.subset, bench.rows, bench.scale
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "forget.jsonl", subset.forget)
    _write(folder / "retain.jsonl", [*subset.retain[: scale.retain_trained], *subset.general, *subset.declined])
    _write(folder / "holdout.jsonl", subset.holdout)
    copyfile(bench.data / "idontknow.jsonl", folder / "refusals.jsonl")
    suite = bench.work / "suite"
    suite.mkdir(exist_ok=True)
    copyfile(folder / "holdout.jsonl", suite / "holdout.jsonl")
    for stem in (scale.forget_set, *PERTURBED):
        copyfile(bench.data / f"{stem}_perturbed.jsonl", suite / f"{stem}_perturbed.jsonl")


def _parts(rows: list[Row], sizes: Sequence[int]) -> Iterator[list[Row]]:
    start = 0
    for size in sizes:
        yield rows[start : start + size]
        start += size


def _write(path: Path, rows: Sequence[Row]) -> None:
    plain = ({name: row[name] for name in ("question", "answer")} for row in rows)
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in plain))
