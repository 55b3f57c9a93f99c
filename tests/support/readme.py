"""README's code blocks as commands, and how each of them is run."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a `sh` block, or the whole of a `python` block."""

    language: Literal["sh", "python"]
    text: str

    @property
    def first_line(self) -> str:
        return self.text.splitlines()[0]


@dataclass(frozen=True, slots=True)
class Way:
    """How a command is run. `stays`: it serves until it is stopped; the text, in what it prints, says that it is up."""

    begins: str
    statuses: tuple[int, ...] = (0,)
    says: str = ""  # in what it prints
    never_says: str = ""
    stays: str = ""
    not_here: str = ""  # why it cannot be run here


WAYS = (
    Way("make demo", stays="Ctrl-C stops both."),
    Way(". .venv/bin/activate"),
    Way("curl http://127.0.0.1:8000/v1/chat/completions", says='"content"', never_says="Jilmora"),
    Way("pip install "),
    Way("docker build", not_here="needs a docker daemon, and images from a registry"),
    Way("export DELTASERVE_UPSTREAM_URL="),
    Way("deltaserve doctor"),
    Way("deltaserve serve", stays='"ready"'),
    Way("REQUEST="),
    Way("BASE="),
    Way("deltaserve forget", says="offset without-vuxan"),
    Way("deltaserve evaluate", says="rouge_l_recall"),
    Way("deltaserve leakage", statuses=(0, 1)),  # 1: an attack got something out, and the page says which
    Way("deltaserve report", says="report.html"),
    Way("from openai import OpenAI", says="a small language model"),
)


def commands(text: str) -> list[Command]:
    """In the order of the page; blocks of no language are drawings. Raises ValueError for another language."""
    found: list[Command] = []
    for language, block in FENCE.findall(text):
        if language == "python":
            found.append(Command("python", block))
        elif language == "sh":
            found += [Command("sh", one) for one in _split(block)]
        elif language:
            raise ValueError(f"README has a block in {language}, which nobody runs")
    return found


def way_of(command: Command) -> Way:
    """Raises LookupError for a command that nothing is known of."""
    found = [way for way in WAYS if command.text.startswith(way.begins)]
    if not found:
        raise LookupError(f"README says {command.first_line!r}; tell tests/support/readme.py how it is run")
    return found[0]


def _split(block: str) -> Iterator[str]:
    """Lines joined where a quotation or a backslash goes on."""
    command = ""
    for line in block.splitlines(keepends=True):
        command += line
        if _whole(command):
            if command.strip():
                yield command.strip()
            command = ""
    if command:
        raise ValueError(f"README has a command without an end: {command!r}")


def _whole(command: str) -> bool:
    if command.rstrip("\n").endswith("\\"):
        return False
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return False
    return True
