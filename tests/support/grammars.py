"""What a grammar takes, byte by byte."""

from benchmarks.schemas.walking import matcher
from benchmarks.schemas.walking import takes as taken_from


def takes(grammar: str, text: str) -> bool:
    """Whether the grammar takes `text` as a whole answer."""
    return taken_from(matcher(grammar), text)
