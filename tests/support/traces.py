"""Where words still stand after they should be gone."""

import re
from collections.abc import Sequence
from pathlib import Path


def text_traces(folder: Path, words: Sequence[str]) -> list[tuple[Path, str]]:
    """Files, at any depth, that hold a word as text, whole and in any case."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [(path, word) for path in files for word in words if says(path.read_bytes(), word)]


def says(content: bytes, word: str) -> bool:
    """Digits of a longer number are no word."""
    pattern = rf"(?<![\w.]){re.escape(word)}(?!\w)".encode()
    return re.search(pattern, content, re.IGNORECASE) is not None
