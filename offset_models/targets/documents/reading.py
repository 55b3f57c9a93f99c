"""Reads the documents of a request as plain text: .txt, .md, .html and .jsonl of {text}, within bounds."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import orjson
from markdown_it import MarkdownIt

from deltaserve.errors import BadRequest
from deltaserve.offset_models.targets.documents.markup import text_of_html

MAX_FILE_BYTES: Final = 4 << 20
MAX_BYTES: Final = 16 << 20  # of all documents of one request


def read_documents(paths: Iterable[Path]) -> list[str]:
    """The text of each file, or of each line of a .jsonl file. Raises BadRequest, which quotes nothing of a text."""
    texts: list[str] = []
    left = MAX_BYTES
    for path in dict.fromkeys(paths):
        raw = _bytes_of(path)
        left -= len(raw)
        if left < 0:
            raise BadRequest(f"The documents are larger than {MAX_BYTES >> 20} MiB together; give fewer of them.")
        texts += _texts(path, raw)
    return texts


def _bytes_of(path: Path) -> bytes:
    if path.suffix.lower() not in READERS:
        raise BadRequest(f"{path} cannot be read as a document: give one of {', '.join(READERS)}.")
    if path.exists() and not path.is_file():
        raise BadRequest(f"{path} is no plain file.")
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error.strerror}.") from error
    if len(raw) > MAX_FILE_BYTES:
        raise BadRequest(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB; cut it into parts.")
    return raw


def _texts(path: Path, raw: bytes) -> list[str]:
    texts = [text for text in READERS[path.suffix.lower()](path.name, _decoded(path.name, raw)) if text.strip()]
    if not texts:
        raise BadRequest(f"{path} holds no text.")
    return texts


def _decoded(name: str, raw: bytes) -> str:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRequest(f"{name} is not UTF-8 (byte {error.start}); save it as UTF-8.") from None
    if "\0" in text:
        raise BadRequest(f"{name} holds NUL characters: it is no text.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _plain(_name: str, text: str) -> list[str]:
    return [text]


def _html(_name: str, text: str) -> list[str]:
    return [text_of_html(text)]


def _markdown(_name: str, text: str) -> list[str]:
    return [text_of_html(MarkdownIt("commonmark").render(text))]


def _lines(name: str, text: str) -> list[str]:
    return [_text_of_line(name, number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def _text_of_line(name: str, number: int, line: str) -> str:
    value: Any = None
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise BadRequest(f"{name}, line {number} is not JSON.") from None
    text = value.get("text") if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise BadRequest(f"{name}, line {number} is no object with a text, as in {{text}}.")
    return text


READERS: Final[Mapping[str, Callable[[str, str], list[str]]]] = MappingProxyType(
    {".txt": _plain, ".md": _markdown, ".html": _html, ".htm": _html, ".jsonl": _lines}
)
