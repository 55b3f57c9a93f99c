"""What a client sent, as an error may repeat it: short, and always Unicode."""

from typing import Final

MAX_NAME: Final = 64
MAX_SENTENCE: Final = 1000


def quoted(name: object) -> str:
    """A name in backquotes, cut where it is long."""
    text = str(name)
    return f"`{plain(text, MAX_NAME)}`"


def plain(text: str, most: int = MAX_SENTENCE) -> str:
    """At most `most` characters of `text`; half a surrogate pair is written as its escape."""
    cut = text if len(text) <= most else text[:most] + "…"
    return cut.encode("utf-8", "backslashreplace").decode()


def is_unicode(text: str) -> bool:
    """False where `text` holds half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
