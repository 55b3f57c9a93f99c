"""The demo's figures: ROUGE-L recall on held-out questions, through HTTP alone, and whether they hold."""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import orjson

from client.demo.ask import AT_ONCE, MAX_TOKENS, answers
from client.demo.children import unless_ended
from client.demo.servers import Correction, Running, black_box, ready, server
from client.terminal import note
from offset_models.demo.questions import Question, Split, judging_questions

REPORT: Final = Path("build/demo.json")
SMALL_K: Final = 5
SPLITS: Final[tuple[Split, ...]] = ("forget", "retain", "neighbours")
REMEMBERED: Final = 0.9  # least recall of the black box on what is to be forgotten
FORGOTTEN: Final = 0.3  # largest recall of the server on it
RETAINED: Final = 0.05  # largest distance of the server from the black box on the rest

Figures = dict[str, float]  # "forget/black_box" → mean ROUGE-L recall


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: a claim about figures."""

    claim: str
    figures: tuple[str, ...]
    test: Callable[..., bool]

    def holds(self, figures: Mapping[str, float]) -> bool:
        return self.test(*(figures[name] for name in self.figures))


@dataclass(slots=True)
class Report:
    """What `build/demo.json` holds."""

    settings: dict[str, Any]
    figures: Figures = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    holds: dict[str, bool] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(orjson.dumps({"machine": machine(), **asdict(self)}, option=orjson.OPT_INDENT_2) + b"\n")


async def check(weights: Path, how: Correction, limit: int) -> Report:
    """Asks the first `limit` questions of each split of everybody: the black box, and a server for each setting."""
    questions = {split: judging_questions(split, limit) for split in SPLITS}
    settings = {"k": how.k, "tail": how.tail, "questions": {split: len(asked) for split, asked in questions.items()}}
    report = Report(settings | {"max_tokens": MAX_TOKENS, "at_once": AT_ONCE, "temperature": 0})
    async with black_box(weights, None, how.k) as box:
        for name, correction in corrections(how).items():
            async with server(weights, None, box.url, correction) as served:
                await _timed(report, f"{name}/start", unless_ended(ready(box, served), box.child, served.child))
                sides = {"black_box": box, name: served} if name == "served" else {name: served}
                for side, asked in sides.items():
                    work = _measure(side, asked, questions if name == "served" else {"forget": questions["forget"]})
                    report.figures |= await _timed(report, side, unless_ended(work, box.child, served.child))
    report.holds = {row.claim: row.holds(report.figures) for row in ROWS}
    return report


def corrections(how: Correction) -> dict[str, Correction]:
    """The servers that are measured, by the name of their figures."""
    return {
        "served": how,
        "served_k5_impute": Correction(SMALL_K, "impute"),
        "served_k5_truncate": Correction(SMALL_K, "truncate"),
    }


def _remembered(before: float) -> bool:
    return before >= REMEMBERED


def _forgotten(after: float) -> bool:
    return after <= FORGOTTEN


def _retained(before: float, after: float) -> bool:
    return abs(before - after) <= RETAINED


ROWS: Final = (
    Row(f"forget: black box ≥ {REMEMBERED}", ("forget/black_box",), _remembered),
    Row(f"forget: served ≤ {FORGOTTEN}", ("forget/served",), _forgotten),
    Row(f"retain: served within {RETAINED} of the black box", ("retain/black_box", "retain/served"), _retained),
    Row(f"forget, k = {SMALL_K}: served ≤ {FORGOTTEN}", ("forget/served_k5_impute",), _forgotten),
)


async def _measure(name: str, side: Running, questions: Mapping[Split, Sequence[Question]]) -> Figures:
    return {f"{split}/{name}": recall(await answers(side, asked), asked) for split, asked in questions.items()}


def recall(said: Sequence[str], questions: Sequence[Question]) -> float:
    """Mean ROUGE-L recall of the original answers, stemmed as in TOFU."""
    from offset_models.evaluation.overlap import rouge_l_recall

    recalls = [rouge_l_recall(q.answer, text) for q, text in zip(questions, said, strict=True)]
    return round(float(sum(recalls) / len(recalls)), 4)


async def _timed(report: Report, name: str, work: Any) -> Any:
    note(f"{name} …")
    began = time.perf_counter()
    result = await work
    report.seconds[name] = round(time.perf_counter() - began, 1)
    return result


def machine() -> dict[str, Any]:
    """What the figures were made on; no names."""
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("deltaserve", "torch", "transformers")},
    }
