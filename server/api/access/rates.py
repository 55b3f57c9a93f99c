"""What is left of a key's limits, in the headers that OpenAI's clients know."""

from collections.abc import Iterator
from typing import Final

from deltaserve.server.serving.admission.clients import Left, Standing

_KINDS: Final = ("requests", "tokens")
RATE_HEADERS: Final = tuple(f"x-ratelimit-{part}-{kind}" for kind in _KINDS for part in ("limit", "remaining", "reset"))


def rate_headers(standing: Standing) -> dict[str, str]:
    """As it was when the answer began; nothing is said of a limit that the key does not have."""
    return dict(pair for kind in _KINDS if (left := getattr(standing, kind)) for pair in _of(kind, left))


def _of(kind: str, left: Left) -> Iterator[tuple[str, str]]:
    yield f"x-ratelimit-limit-{kind}", str(left.limit)
    yield f"x-ratelimit-remaining-{kind}", str(left.remaining)
    yield f"x-ratelimit-reset-{kind}", duration(left.reset_s)


def duration(seconds: float) -> str:
    """As OpenAI writes it: 17ms, 1.5s, 6m0s."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 3), 60)
    written = f"{rest:.3f}".rstrip("0").rstrip(".") + "s"
    return f"{int(minutes)}m{written}" if minutes else written
