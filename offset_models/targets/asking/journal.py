"""What the black box has answered, on disk: a run that was stopped asks nothing twice and repeats itself.

The file holds text about the target. It is in the work folder, and whoever purges that deletes `journal_files`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deltaserve.errors import Conflict, CorruptState
from deltaserve.offset_models.files.json_lines import DamagedLines, JsonLines
from deltaserve.offset_models.files.locks import LOCK_FILE
from deltaserve.offset_models.training.collecting.folder import writing_in
from deltaserve.offset_models.training.rows.row import digest_of_ids

FOLDER: Final = "asked"
ANSWERS: Final = "answers.jsonl"


@dataclass(frozen=True, slots=True)
class Question:
    """One call: what is sent, and the number of the sample where it is asked several times."""

    ids: tuple[int, ...]
    max_tokens: int
    temperature: float = 0.0
    sample: int = 0
    stops: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Digest of all of it, hex."""
        return digest_of_ids([self.ids, self.max_tokens, self.temperature, self.sample, self.stops]).hex()

    @property
    def seed(self) -> int:
        """Of its draws, 31 bits: another one for each sample, the same in each run."""
        return int(self.key[:8], 16) >> 1


@dataclass(frozen=True, slots=True)
class Answer:
    """What the black box said, and in how many calls: usually one."""

    text: str
    calls: int = 1


class Journal:
    """Answers by the question's key."""

    def __init__(self, lines: JsonLines) -> None:
        self._lines = lines
        self._answers = {entry["key"]: Answer(entry["text"], entry["calls"]) for entry in lines.objects[1:]}
        self._counted = set[str]()

    def get(self, question: Question) -> Answer | None:
        return self._answers.get(question.key)

    def put(self, question: Question, answer: Answer) -> None:
        self._answers[question.key] = answer
        self._counted.add(question.key)
        self._lines.add({"key": question.key, "text": answer.text, "calls": answer.calls})

    def newly_met(self, question: Question) -> int:
        """Calls that a stopped run made for the answer, the first time that this run wants it; else 0."""
        answer = self.get(question)
        if answer is None or question.key in self._counted:
            return 0
        self._counted.add(question.key)
        return answer.calls


@contextmanager
def opened_journal(work: Path, model: str, tokenizer: str) -> Iterator[Journal]:
    """The journal of a work folder, for this process alone. `tokenizer`: its fingerprint.

    Raises Conflict when another process has it, or when another model was asked; CorruptState when it is damaged.
    """
    folder, about = work / FOLDER, {"model": model, "tokenizer": tokenizer}
    with writing_in(folder):
        lines = _read(folder / ANSWERS)
        if lines.objects and lines.objects[0] != about:
            raise Conflict(f"{folder} holds answers of another model or tokenizer: give another --work, or purge it.")
        lines.objects = lines.objects or [about]
        lines.open()
        try:
            yield Journal(lines)
        finally:
            lines.close()


def journal_files(work: Path) -> list[Path]:
    """Files of a work folder that hold what the black box was asked and answered, and the lock beside them."""
    folder = work / FOLDER
    return sorted(path for path in folder.glob("*") if path.name == LOCK_FILE or ANSWERS in path.name)


def _read(path: Path) -> JsonLines:
    try:
        lines = JsonLines(path)
    except DamagedLines as error:
        raise CorruptState(f"{path} is damaged: delete it to ask everything again.") from error
    if not all({"key", "text", "calls"} <= entry.keys() for entry in lines.objects[1:]):
        raise CorruptState(f"{path} is not a journal of answers: delete it to ask everything again.")
    return lines
