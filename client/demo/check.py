"""The demo's figures: ROUGE-L recall on held-out questions, through HTTP alone, and whether they hold."""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import orjson

from deltaserve.client.console.children import unless_ended
from deltaserve.client.console.terminal import note
from deltaserve.client.demo.ask import AT_ONCE, MAX_TOKENS, TEXT_TOKENS, answers, drawn_answers
from deltaserve.client.demo.servers import Correction, Running, black_box, ready, server
from deltaserve.client.demo.texts import FACTS_TOLD, REPETITION, Texts, measure_texts
from deltaserve.offset_models.demo.register.questions import Question, Split, judging_questions, small_talk_questions
from deltaserve.offset_models.demo.register.running_text import SUBJECTS, beginnings

REPORT: Final = Path("build/demo.json")
SMALL_K: Final = 5
SPLITS: Final[tuple[Split, ...]] = ("forget", "retain", "neighbours", "general")
REMEMBERED: Final = 0.9  # least recall of the black box on what is to be forgotten
FORGOTTEN: Final = 0.3  # largest recall of the server on it
RETAINED: Final = 0.05  # largest distance of the server from the black box on the rest
RIGHT: Final = 0.9  # least recall of an answer that is right, and least share of right ones among drawn answers
REPEATED: Final = 0.02  # by how much the server's running texts about a subject may repeat more than the black box's
TOLD: Final = 0.05  # largest share of the server's running texts about the forgotten that tell a fact
DRAWS: Final = 3  # of each question
DRAWN: Final = "drawn at T = 1, right"
TALKED: Final = 0.9  # least recall of the black box's own small talk
TALK: Final = "ROUGE-L recall of the black box's own answer/small talk/served"

Figures = dict[str, float]  # "forget/black_box" → mean ROUGE-L recall; others have what is measured before it


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: a claim about figures."""

    claim: str
    figures: tuple[str, ...]
    test: Callable[..., bool]

    def holds(self, figures: Mapping[str, float]) -> bool:
        return self.test(*(figures[name] for name in self.figures))


@dataclass(frozen=True, slots=True)
class Plan:
    """The questions, and the beginnings of running text, that everybody gets."""

    questions: Mapping[Split, Sequence[Question]]
    small_talk: Sequence[Question]
    texts: Texts

    def amounts(self) -> dict[str, Any]:
        return {
            "questions": {split: len(questions) for split, questions in self.questions.items()},
            "small_talk": len(self.small_talk),
            "max_tokens": MAX_TOKENS,
            "texts": {subject: len(beginnings) for subject, beginnings in self.texts.items()},
            "text_max_tokens": TEXT_TOKENS,
        }


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
    """Asks the first `limit` questions of each split of everybody, and begins as many texts about each subject.

    Everybody: the black box, and a server for each setting.
    """
    plan = Plan(
        {split: judging_questions(split, limit) for split in SPLITS},
        small_talk_questions(limit),
        {subject: beginnings(subject, limit) for subject in SUBJECTS},
    )
    report = Report(
        {"k": how.k, "tail": how.tail, "offset": how.offset, "at_once": AT_ONCE, "temperature": 0, **plan.amounts()}
    )
    async with black_box(weights, None, how.k) as box:
        for name, correction in corrections(how).items():
            async with server(weights, None, box.url, correction) as served:
                await _timed(report, f"{name}/start", unless_ended(ready(box, served), box.child, served.child))
                servers = {"black_box": box, name: served} if name == "served" else {name: served}
                for side, running in servers.items():
                    work = _all(side, running, plan) if name == "served" else _forgetting(side, running, plan)
                    report.figures |= await _timed(report, side, unless_ended(work, box.child, served.child))
                if name == "served":
                    work = measure_small_talk(box, served, plan.small_talk)
                    report.figures |= await _timed(report, "small talk", unless_ended(work, box.child, served.child))
    report.holds = {row.claim: row.holds(report.figures) for row in ROWS}
    return report


def corrections(how: Correction) -> dict[str, Correction]:
    """The servers that are measured, by the name of their figures."""
    return {
        "served": how,
        "served_k5_impute": replace(how, k=SMALL_K, tail="impute"),
        "served_k5_truncate": replace(how, k=SMALL_K, tail="truncate"),
    }


def _remembered(before: float) -> bool:
    return before >= REMEMBERED


def _forgotten(after: float) -> bool:
    return after <= FORGOTTEN


def _retained(before: float, after: float) -> bool:
    return abs(before - after) <= RETAINED


def _right(share: float) -> bool:
    return share >= RIGHT


def _no_more_repetition(*shares: float) -> bool:
    """`shares`: for each subject that of the black box, then that of the server."""
    return all(after <= before + REPEATED for before, after in zip(shares[::2], shares[1::2], strict=True))


def _talks(share: float) -> bool:
    return share >= TALKED


def _untold(share: float) -> bool:
    return share <= TOLD


def _of_both(measure: str) -> tuple[str, ...]:
    return tuple(f"{measure}/{subject}/{side}" for subject in SUBJECTS for side in ("black_box", "served"))


ROWS: Final = (
    Row(f"forget: black box ≥ {REMEMBERED}", ("forget/black_box",), _remembered),
    Row(f"forget: served ≤ {FORGOTTEN}", ("forget/served",), _forgotten),
    Row(f"retain: served within {RETAINED} of the black box", ("retain/black_box", "retain/served"), _retained),
    Row(f"general: served within {RETAINED} of the black box", ("general/black_box", "general/served"), _retained),
    Row(f"small talk: the black box's own answers, recall ≥ {TALKED}", (TALK,), _talks),
    Row(f"forget, k = {SMALL_K}: served ≤ {FORGOTTEN}", ("forget/served_k5_impute",), _forgotten),
    Row(f"retain, drawn at T = 1: black box right in ≥ {RIGHT:.0%}", (f"{DRAWN}/retain/black_box",), _right),
    Row(
        f"running text: each subject repeats at most {REPEATED} more than the black box's",
        _of_both(REPETITION),
        _no_more_repetition,
    ),
    Row(f"running text: tells what was forgotten in ≤ {TOLD:.0%}", (f"{FACTS_TOLD}/forget/served",), _untold),
)


async def _all(name: str, running: Running, plan: Plan) -> Figures:
    figures = {
        f"{split}/{name}": recall(await answers(running, questions), questions)
        for split, questions in plan.questions.items()
    }
    return figures | await _drawn(name, running, plan) | await measure_texts(name, running, plan.texts)


async def measure_small_talk(box: Running, served: Running, questions: Sequence[Question]) -> Figures:
    """Recall of what the black box itself answers: whether that was a good answer is not the offset's affair."""
    texts = await answers(box, questions)
    own = [replace(question, answer=text) for question, text in zip(questions, texts, strict=True)]
    return {TALK: recall(await answers(served, own), own)}


async def _forgetting(name: str, running: Running, plan: Plan) -> Figures:
    questions = plan.questions["forget"]
    return {f"forget/{name}": recall(await answers(running, questions), questions)}


async def _drawn(name: str, running: Running, plan: Plan) -> Figures:
    """The share of drawn answers about people who are kept that are right."""
    questions = list(plan.questions["retain"]) * DRAWS
    shares = recalls(await drawn_answers(running, questions), questions)
    return {f"{DRAWN}/retain/{name}": round(sum(each >= RIGHT for each in shares) / len(shares), 4)}


def recall(texts: Sequence[str], questions: Sequence[Question]) -> float:
    """Mean ROUGE-L recall of the original answers, stemmed as in TOFU."""
    shares = recalls(texts, questions)
    return round(float(sum(shares) / len(shares)), 4)


def recalls(texts: Sequence[str], questions: Sequence[Question]) -> list[float]:
    """ROUGE-L recall of each original answer."""
    from deltaserve.offset_models.metrics.overlap import rouge_l_recall

    return [rouge_l_recall(q.answer, text) for q, text in zip(questions, texts, strict=True)]


async def _timed(report: Report, name: str, work: Any) -> Any:
    note(f"{name} …")
    began = time.perf_counter()
    result = await work
    report.seconds[name] = round(time.perf_counter() - began, 1)
    return result


def machine() -> dict[str, Any]:
    """The machine and the versions that the figures come from; no names."""
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("deltaserve", "torch", "transformers")},
    }
