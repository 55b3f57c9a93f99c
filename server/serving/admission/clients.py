"""Whoever asks: a key's name and its limits, and how much of them is left."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Client:
    """Whoever holds one key; None: no limit, any model."""

    name: str
    streams: int | None = None  # choices that run or wait, at a time
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None  # of prompts, and generated
    models: tuple[str, ...] | None = None

    @property
    def counted(self) -> bool:
        """Whether its requests have to be counted."""
        return self.requests_per_minute is not None or self.tokens_per_minute is not None


ANYBODY = Client("")  # of a server without keys


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of one limit."""

    limit: int
    remaining: int
    reset_s: float  # until all of it is there again, where nothing more is used


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left of a client's limits; None: there is no such limit."""

    requests: Left | None = None
    tokens: Left | None = None
    wait_s: float | None = None  # the request just counted is one too many: until the next one may come
