"""What all stand-ins share: the oracle answers a call position by position, and switches spoil the answer.

A stand-in is given to `tests.support.replay.replaying`, which puts it behind real HTTP on loopback. A vendor's file
says how it is asked and how its answers look; the switches are the same for all, and each is one trap.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from tests.support.replay import UNTIL_THE_CLIENT_LEAVES, Reply, Request, json_reply
from tests.support.standins.forms import Engine, allowed, text_of_lark, text_of_schema
from tests.support.standins.oracle import END, PROMPT, SIZE, TOKENIZER, best, logprobs

SECRET: Final = TOKENIZER.decode(PROMPT)  # text of the prompt, which servers quote in their errors
COMMENT: Final = b": keep-alive\n\n"


@dataclass(frozen=True, slots=True)
class Asked:
    """A call as the vendor's file understood it."""

    prefix: list[int]
    k: int
    temperature: float
    max_tokens: int
    stream: bool = True
    forced: int | None = None  # a bias leaves no other token to be drawn
    named: tuple[int, ...] = ()  # ids whose log-probabilities are asked for by name
    form: bytes | None = None  # the only text that it may have


@dataclass(slots=True)
class Position:
    """What was drawn, and what is listed: the best ids first."""

    drawn: int
    own: float  # log-probability of what was drawn
    ids: list[int]
    logprobs: list[float]
    named: list[tuple[int, float]] = field(default_factory=list)
    listed: bool = True

    @property
    def is_end(self) -> bool:
        return self.drawn == END


@dataclass
class StandIn:
    """A server. The fields are its switches; all off, it is a good black box."""

    key: str | None = None  # without it every call is refused
    max_k: int = 20
    script: Sequence[int] = ()  # what it draws at the first positions of every answer
    rank: int = 0  # of what it draws at the others: 0 is the best token
    spoil: Callable[[list[Position]], None] | None = None  # changes an answer's lists
    processed: bool = False  # lists are taken after the temperature
    templated: bool = False  # it puts something before every prompt, which depends on the prompt's length
    shortens: int = 0  # tokens at the beginning of a prompt that it leaves out without a word
    counts: int = 0  # tokens by which its usage is wrong
    status: int | None = None  # every generation fails with it
    retry_after: str | None = None
    comments: bool = False  # keep-alive comments before every event
    cut_after: int | None = None  # events, then the connection breaks
    stops_after: int | None = None  # events, then the answer ends as if it were complete
    error_after: int | None = None  # events, then the vendor's own error event
    waits_after: int | None = None  # events, then silence until the client leaves
    engine: Engine = ""  # of grammars
    masks: bool = True  # under a grammar it lists what that allows

    path: ClassVar[str] = "/v1/completions"
    done: ClassVar[bytes] = b"data: [DONE]\n\n"

    def __call__(self, request: Request) -> Reply:
        if self.key is not None and not self.authorised(request):
            return self.error(401)
        if (page := self.page(request)) is not None:
            return page
        if request.path != self.path or request.method != "POST":
            return self.error(404)
        if self.status is not None:
            return self.error(self.status)
        if (several := self.several(request.body)) is not None:
            return several
        asked = self.asked(request.body)
        if isinstance(asked, Reply):
            return asked
        asked = replace(asked, prefix=asked.prefix[self.shortens :])
        answer = self.answer(asked)
        return self._streamed(answer, asked) if asked.stream else json_reply(self.whole(answer, asked))

    # what a vendor's file says

    def page(self, request: Request) -> Reply | None:
        """The pages by which it is recognised, and what else it answers beside generations."""
        raise NotImplementedError

    def asked(self, body: dict[str, Any]) -> Asked | Reply:
        """What a body asks for, or the vendor's refusal of it."""
        raise NotImplementedError

    def several(self, body: dict[str, Any]) -> Reply | None:
        """The answer to several prompts in one call; None where there is one."""
        return None

    def events(self, answer: list[Position], asked: Asked) -> list[bytes]:
        """The answer's events up to the one that ends it, without `done`."""
        raise NotImplementedError

    def whole(self, answer: list[Position], asked: Asked) -> Any:
        """The answer in one piece."""
        raise NotImplementedError

    def error_body(self, status: int, message: str) -> Any:
        """In the vendor's own shape: bytes are no JSON."""
        raise NotImplementedError

    def error_event(self) -> bytes:
        """An error in the middle of a stream."""
        raise NotImplementedError

    # what they share

    def form(self, schema: Any, lark: str | None) -> bytes | Reply | None:
        """What a call with one of these is held to, or its refusal."""
        if (schema is None and lark is None) or self.engine == "ignores":
            return None
        text = text_of_schema(schema, self.engine) if lark is None else text_of_lark(lark, self.engine)
        return self.error(400) if text is None else text

    def authorised(self, request: Request) -> bool:
        return request.headers.get("authorization") == f"Bearer {self.key}"

    def error(self, status: int, message: str | None = None) -> Reply:
        """A refusal that quotes the key and the prompt, as servers do."""
        said = message or f"Bad call {status}: the key {self.key} was sent with the prompt {SECRET!r}."
        headers = {} if self.retry_after is None else {"retry-after": self.retry_after}
        return json_reply(self.error_body(status, said), status, **headers)

    def answer(self, asked: Asked) -> list[Position]:
        positions: list[Position] = []
        prefix = [*([len(asked.prefix) % 97] if self.templated else []), *asked.prefix]
        while len(positions) < asked.max_tokens and not (positions and positions[-1].is_end):
            positions.append(self._position(prefix, asked, len(positions)))
            prefix.append(positions[-1].drawn)
        if self.spoil is not None:
            self.spoil(positions)
        return positions

    def drawn(self, answer: Sequence[Position]) -> int:
        """What its usage says that it drew."""
        return len(answer) + self.counts

    def finish(self, answer: Sequence[Position]) -> str:
        return "stop" if answer and answer[-1].is_end else "length"

    def _held(self, known: NDArray[np.float64], asked: Asked, rest: bytes) -> Position:
        mask = allowed(rest)
        inside = np.where(mask, known, -np.inf)
        shown = inside - np.log(np.exp(inside).sum()) if self.masks else known
        listed = np.argsort(-shown, kind="stable")[: asked.k]
        numbers = [max(float(shown[i]), -9999.0) for i in listed]
        drawn = int(inside.argmax())
        return Position(drawn, float(shown[drawn]), [int(i) for i in listed], numbers)

    def _position(self, prefix: list[int], asked: Asked, at: int) -> Position:
        known = logprobs(prefix, asked.temperature if self.processed and asked.temperature else 1.0)
        if asked.form is not None:
            said = b"".join(map(TOKENIZER.token_bytes, prefix[len(prefix) - at :]))
            return self._held(known, asked, asked.form.removeprefix(said))
        listed = best(prefix, min(asked.k, SIZE))
        drawn = best(prefix, self.rank + 1)[self.rank] if asked.forced is None else asked.forced
        drawn = self.script[at] if at < len(self.script) and asked.forced is None else drawn
        named = [(i, float(known[i])) for i in asked.named]
        return Position(drawn, float(known[drawn]), listed, [float(known[i]) for i in listed], named)

    def _streamed(self, answer: list[Position], asked: Asked) -> Reply:
        pieces: list[bytes | float] = [*self.events(answer, asked)]
        if self.comments:
            pieces = [each for piece in pieces for each in (self.comment, piece)]
        if self.cut_after is not None:
            return Reply(pieces[: self.cut_after], content_type=self.content_type, cut=True)
        done = [self.done] if self.done else []
        if self.stops_after is not None:
            return Reply(pieces[: self.stops_after], content_type=self.content_type)
        if self.error_after is not None:
            return Reply([*pieces[: self.error_after], self.error_event(), *done], content_type=self.content_type)
        if self.waits_after is not None:
            pieces = [*pieces[: self.waits_after], UNTIL_THE_CLIENT_LEAVES]
        return Reply([*pieces, *done], content_type=self.content_type)

    content_type: ClassVar[str] = "text/event-stream"
    comment: ClassVar[bytes] = COMMENT


class Shown:
    """Text as a server with an incremental detokeniser sends it: a character when its last byte is there."""

    def __init__(self) -> None:
        self._held = b""

    def text(self, token_id: int) -> str:
        """What this token adds; special tokens have no text."""
        if token_id in TOKENIZER.special_ids:
            return ""
        self._held += TOKENIZER.token_bytes(token_id)
        try:
            text = self._held.decode()
        except UnicodeDecodeError as error:
            if error.reason == "unexpected end of data" and len(self._held) - error.start < 4:
                whole, self._held = self._held[: error.start], self._held[error.start :]
                return whole.decode()
            text = self._held.decode(errors="replace")
        self._held = b""
        return text
