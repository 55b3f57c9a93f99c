"""What a front-end and the engine process say to each other. Ids count up on each connection; front-ends choose them.

A front-end takes something (a version's pin, places, a stream) under an id, uses it, and drops the id. What it holds
when its connection ends is given back.
"""

from typing import Any, Final

import msgspec

from deltaserve.server.decoding.correction import TailPolicy
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Policy
from deltaserve.server.serving.admission.clients import Client


class _Message(msgspec.Struct, array_like=True, gc=False):
    """Fields go by position: both ends are of one installation."""


class Listed(_Message):
    """`Proposal`; arrays as their bytes."""

    token_id: int | None
    top_ids: bytes  # int64
    top_logprobs: bytes  # float64
    token_logprob: float | None
    local: bool
    end_id: int | None
    log_cap: float | None
    named: bool
    held: bool
    masked: bool
    whole: bool
    unlisted: bool


class Explained(_Message):
    """`Explanation`; arrays as their bytes."""

    kl_nats: float
    ids: bytes
    before: bytes
    offset: bytes
    after: bytes


class Decided(_Message):
    """`Decision`; `top` and `agreement` as their parts."""

    token_id: int
    certified: bool | None
    tail_mass: float
    logprob: float | None
    top_ids: bytes | None
    top_logprobs: bytes | None
    explanation: Explained | None
    guarded: bool
    upstream_agreement: float | None
    local_agreement: float | None
    forced: bool
    ends: bool


class Scored(_Message):
    """`ScoredToken`."""

    token_id: int
    logprob: float | None
    top_ids: bytes | None
    top_logprobs: bytes | None


class Fault(_Message):
    """An error, by the name of its class in `deltaserve.errors`; another class is a defect of ours."""

    name: str
    message: str
    param: str | None = None
    retry_after_s: float | None = None


class TokenizerFacts(_Message):
    """Where a tokenizer is, and which one it was."""

    folder: str
    digest: str  # `version_facts.tokenizer_digest`


class VersionFacts(_Message):
    """What a front-end has to know of a version."""

    name: str
    fingerprint: str
    max_context: int
    tokenizer: TokenizerFacts
    pair_tokenizer: TokenizerFacts | None = None  # where the pair has another one


class Text(_Message):
    """The ids of a text, beside what was told of it before: the first `kept` stay, `new` follow."""

    kept: int
    new: list[int]


# To the engine


class Pin(_Message, tag="pin"):
    """Answered with VersionFacts."""

    id: int
    model: str | None


class Ping(_Message, tag="ping"):
    """Whether the event loop there turns. Answered with nothing."""

    id: int


class Count(_Message, tag="count"):
    """`Places.request`. Answered with a Standing."""

    id: int
    client: Client


class CheckRoom(_Message, tag="room"):
    """`Places.check_room`. Answered with nothing."""

    id: int
    client: Client


class Reserve(_Message, tag="reserve"):
    """Answered with a Standing."""

    id: int
    client: Client
    count: int
    prompt_tokens: int


class TakePlace(_Message, tag="place"):
    """Of what was reserved as `reservation`."""

    id: int
    reservation: int
    timeout_s: float | None


class Spend(_Message, tag="spend"):
    """`Reservation.spent`."""

    reservation: int
    tokens: int


class Open(_Message, tag="open"):
    """A stream of the version pinned as `pin`."""

    id: int
    pin: int
    timeout_s: float
    pair_prompt: list[int] | None = None  # the prompt in the tokens of the pair, where these are others


class Drop(_Message, tag="drop"):
    """Give back what was taken as `id`, or was to be."""

    id: int


class Ask(_Message, tag="ask"):
    """Anything that is asked rarely: a method of `ports.Offsets` and its arguments, in plain JSON types."""

    id: int
    method: str
    arguments: dict[str, Any]


class Prefetch(_Message, tag="prefetch"):
    """Of the session."""

    stream: int
    text: Text


class Begin(_Message, tag="begin"):
    """The stream's corrector: an `AnswerSpec` whose prompt is the stream's text."""

    stream: int
    prompt: Text
    params: SamplingParams
    policy: Policy
    index: int


class Ahead(_Message, tag="ahead"):
    """`Corrector.prefetch`."""

    stream: int


class Decide(_Message, tag="decide"):
    """Answered with Decisions."""

    id: int
    stream: int
    run: list[Listed]
    draft_temperature: float | None
    observed: bool


class Force(_Message, tag="force"):
    """`Corrector.forced`. Answered with Decisions."""

    id: int
    stream: int


class Expected(_Message, tag="expected"):
    id: int
    stream: int


class Lifted(_Message, tag="lifted"):
    id: int
    stream: int


class DraftBlock(_Message, tag="draft"):
    id: int
    stream: int
    length: int


class Score(_Message, tag="score"):
    """Answered with Scores."""

    id: int
    stream: int
    text: Text
    start: int
    proposals: list[Listed]
    tail: TailPolicy
    top: int


# To a front-end, each about the id of what was asked


class Done(_Message, tag="done"):
    id: int
    value: msgspec.Raw = msgspec.Raw(b"\xc0")  # None


class Decisions(_Message, tag="decisions"):
    id: int
    decisions: list[Decided]
    wanted: list[tuple[int, bytes]] = []  # `NamesWanted`, with no decision: ids as int64
    likely: int | None = None  # of it


class Scores(_Message, tag="scores"):
    id: int
    tokens: list[Scored]


class Failed(_Message, tag="failed"):
    id: int
    fault: Fault


ToEngine = (
    Pin
    | Ping
    | Count
    | CheckRoom
    | Reserve
    | TakePlace
    | Spend
    | Open
    | Drop
    | Ask
    | Prefetch
    | Begin
    | Ahead
    | Decide
    | Force
    | Expected
    | Lifted
    | DraftBlock
    | Score
)
ToFrontEnd = Done | Decisions | Scores | Failed
Message = ToEngine | ToFrontEnd

to_engine: Final = msgspec.msgpack.Decoder(list[ToEngine])
to_front_end: Final = msgspec.msgpack.Decoder(list[ToFrontEnd])
