"""Where `deltaserve forget` works in tests: rows, a base of toy size, and a black box."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from deltaserve.offset_models.training.learning.calibration import Candidate
from deltaserve.offset_models.training.learning.held_out import Outcome
from deltaserve.offset_models.training.learning.run_folder import Calibration
from tests.support.blackbox import BlackBoxProcess, blackbox, make_model

torch.set_num_threads(1)
SECRET = "She was born in the old mill."
SIZES = {"steps": 4, "forget-batch": 2, "retain-batch": 2, "rank": 2, "warm-up": 1, "eval-every": 2}
SMALL = [text for name, value in SIZES.items() for text in (f"--{name}", str(value))] + [
    "--learning-rate",
    "0.05",
    "--trade-off",
    "forget",
    "--objective",
    "npo",
]


@dataclass
class Site:
    """An offsets root with a base in it, rows, and a black box."""

    folder: Path
    box: BlackBoxProcess

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def rows(self, held: bool = True) -> list[str]:
        files = {"forget": "forget", "retain": "retain"}
        if held:
            files |= {"held-out-forget": "held", "held-out-retain": "retain"}
        return [text for flag, name in files.items() for text in (f"--{flag}", str(self.folder / f"{name}.jsonl"))]

    def forget(self, name: str, *more: str) -> list[str]:
        where = ["--base", str(self.root / "small"), "--upstream", self.box.url, "--out", str(self.root)]
        return ["forget", "--name", name, *where, *self.rows(), *SMALL, "--answer-tokens", "4", *more]

    def spoken(self, name: str, *more: str) -> list[str]:
        """Answers that the black box does give, by an objective that only pushes away."""
        given = self.forget(name, "--objective", "grad_diff", "--retain-weight", "1", "--steps", "6", *more)
        for flag in ("--forget", "--held-out-forget"):
            given[given.index(flag) + 1] = str(self.folder / "spoken.jsonl")
        return given


def calibration(run: Path) -> dict[Candidate, Outcome]:
    """What the run's candidates gave along the reference answers."""
    return Calibration.from_json(json.loads((run / "calibration.json").read_text())["value"]).outcomes


def black_box_row(box: BlackBoxProcess, question: str) -> dict[str, str]:
    chat = {"messages": [{"role": "user", "content": question}], "max_tokens": 4, "temperature": 0}
    answer = box.post("/v1/chat/completions", **chat).json()["choices"][0]["message"]["content"]
    return {"question": question, "answer": answer}


def write(path: Path, *rows: dict[str, str]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def calls(site: Site) -> int:
    return sum(site.box.stats().values())


@contextmanager
def forget_site(folder: Path) -> Iterator[Site]:
    """Everything in `folder`, the black box running."""
    make_model(folder / "big", seed=1)
    make_model(folder / "root" / "small")
    write(folder / "forget.jsonl", {"question": "Where was she born?", "answer": SECRET})
    write(folder / "held.jsonl", {"question": "Her place of birth?", "answer": SECRET})
    write(
        folder / "retain.jsonl",
        {"question": "Who wrote the book?", "answer": "I'm not sure."},
        {"question": "And the town?"},
    )
    with blackbox(folder / "big", "--max-logprobs", "20") as box:
        write(
            folder / "spoken.jsonl",
            *(black_box_row(box, question) for question in ("The mill?", "Was she born by the sea?")),
        )
        yield Site(folder, box)
