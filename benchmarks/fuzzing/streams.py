"""What a black box sends: bytes of events, one event's JSON, and whole calls as drafts."""

import json
import random
from collections import deque
from collections.abc import Sequence
from math import isfinite
from typing import Any, Final, cast

import numpy as np

from benchmarks.fuzzing.mutating import Mutator
from benchmarks.fuzzing.target import Different, Target
from benchmarks.support.processes import WEIGHTS
from deltaserve.errors import MalformedTopK, UpstreamError
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.decoding.protocols import Proposal
from deltaserve.server.upstream.base import Capabilities
from deltaserve.server.upstream.call_draft import CompletionDraft
from deltaserve.server.upstream.dialects.llamacpp import LlamaCpp
from deltaserve.server.upstream.dialects.vllm import Vllm
from deltaserve.server.upstream.http.events import EventSplitter, EventTooLarge, LineSplitter, Splitter
from deltaserve.server.upstream.http.refusals import error_from_body
from deltaserve.server.upstream.http.strict_json import parsed
from deltaserve.server.upstream.http.transport import EventStream, Transport

_LIMIT: Final = 512
_K: Final = 3


def _listed(*ids: int) -> dict[str, float]:
    return {f"token_id:{token}": -0.3 - 1.5 * rank for rank, token in enumerate(ids)}


def _chunk(token: int, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """As vLLM sends one token."""
    logprobs = {
        "tokens": [f"token_id:{token}"],
        "token_logprobs": [-0.3],
        "top_logprobs": [_listed(token, 260, 270)],
        "text_offset": [3],
    }
    choice = {"index": 0, "text": " a", "logprobs": logprobs, "finish_reason": finish, "stop_reason": None}
    return {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice], **more}


_USAGE: Final = {
    "prompt_tokens": 5,
    "completion_tokens": 2,
    "total_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 4},
}
_LLAMA: Final = {
    "choices": [{
        "text": " a", "index": 0, "finish_reason": None,
        "logprobs": {"content": [{"id": 300, "token": " a", "bytes": [32, 97], "logprob": -0.3, "top_logprobs": [
            {"id": token, "token": " a", "bytes": [32, 97], "logprob": -0.3 - rank}
            for rank, token in enumerate((300, 260, 270))
        ]}]},
    }],
    "created": 1, "model": "m", "system_fingerprint": "b1", "object": "text_completion", "id": "chatcmpl-1",
}  # fmt: skip
CHUNKS: Final = [
    _chunk(300), _chunk(301, "length", usage=_USAGE), _chunk(301, "stop"), _LLAMA,
    {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "choices": [], "usage": _USAGE},
    {"error": {"message": "EngineCore had an issue.", "type": "InternalServerError", "param": None, "code": 500}},
    {"object": "error", "message": "no", "type": "BadRequestError", "code": 400}, {"detail": "Not Found"},
]  # fmt: skip
JSONS: Final = [json.dumps(chunk).encode() for chunk in CHUNKS]
STREAMS: Final = [
    b"".join(b"data: %b\n\n" % one for one in JSONS) + b"data: [DONE]\n\n",
    b": keep-alive\n\nevent: x\r\ndata: %b\r\n\r\ndata: a\rdata: b\r\r" % JSONS[0],
    b"\xef\xbb\xbfdata: %b\n\nid: 7\ndata:%b\n\n" % (JSONS[0], JSONS[1]),
    b"".join(b"%b\n" % one for one in JSONS[:3]),
]


def _fed(splitter: Splitter, pieces: Sequence[bytes]) -> tuple[list[bytes], bytes]:
    return [payload for piece in pieces for payload in splitter.feed(piece)], splitter.rest


def _cut(raw: bytes, chance: random.Random) -> list[bytes]:
    at = sorted(chance.randrange(len(raw) + 1) for _ in range(chance.randrange(1, 6)))
    return [raw[start:stop] for start, stop in zip([0, *at], [*at, len(raw)], strict=True)]


def split(raw: bytes, mutator: Mutator) -> None:
    """Whole or in pieces, the same events come out."""
    for kind in (EventSplitter, LineSplitter):
        whole, pieces = _fed(kind(_LIMIT), [raw]), _fed(kind(_LIMIT), _cut(raw, mutator.chance))
        if whole != pieces:
            raise Different(f"{kind.__name__} gives other events when they come in pieces")


def read_json(raw: bytes, _: Mutator) -> None:
    """What is taken holds no name twice, as the parser says that looks at each."""
    value, repeats = parsed(raw), []

    def look(pairs: list[tuple[str, Any]]) -> None:
        repeats.extend([True] if len(dict(pairs)) != len(pairs) else [])

    json.loads(raw, object_pairs_hook=look)
    if repeats:
        raise Different(f"a name that comes twice was taken: {type(value).__name__}")


def told_error(raw: bytes, mutator: Mutator) -> None:
    """Any body with any status is an error of ours, whose words have nothing of it but names and figures."""
    status = mutator.chance.choice([200, 302, 400, 401, 408, 429, 500, 503, 529])
    retry_after = mutator.chance.choice([None, "1", "", "nan", "inf", "-1", "9" * 400, "Wed, 21 Oct 2015 07:28:00 GMT"])
    error = error_from_body(status, raw, retry_after)
    if not isinstance(error, UpstreamError) or len(error.message) > 600:
        raise Different("an error answer is told at length")


class _Events:
    """An event stream whose payloads are there."""

    def __init__(self, payloads: Sequence[bytes]) -> None:
        self.arrived = deque(payloads)

    def finish(self) -> None:
        """As when the answer is whole."""

    def broke(self, error: UpstreamError) -> None:
        """As when it is not."""


class _Boxes:
    """A black box of each kind that is not asked anything, made once."""

    def __init__(self) -> None:
        self.tokenizer = Tokenizer.load(WEIGHTS / "base")
        facts = (self.tokenizer.vocab_size, 1024, True, True, True, True, True, True)
        transport = Transport("http://127.0.0.1:9")
        self.all = [
            Vllm(transport, self.tokenizer, Capabilities("vllm", "vLLM", "m", _K, 20, *facts)),
            LlamaCpp(transport, self.tokenizer, Capabilities("llamacpp", "llama.cpp", "m", _K, 20, *facts)),
        ]

    def draft(self, raw: bytes, mutator: Mutator) -> None:
        """Whatever comes, proposals have lists that are right, and the rest is an UpstreamError."""
        chance = mutator.chance
        good = chance.choice(JSONS[:4])
        payloads = [*([good] if chance.random() < 0.3 else []), raw, *([b"[DONE]"] if chance.random() < 0.5 else [])]
        box = chance.choice(self.all)
        draft = CompletionDraft(box, cast(EventStream, _Events(payloads)), [256, 257], 1.0, 4)
        for proposal in draft.arrived():
            self._require_right(proposal)
        draft.cost  # noqa: B018  (it is counted whatever came)

    def _require_right(self, proposal: Proposal) -> None:
        ids, logprobs = proposal.top_ids.tolist(), proposal.top_logprobs.tolist()
        hidden = proposal.token_id is None and not ids
        right = len(ids) == len(set(ids)) == len(logprobs) and all(map(isfinite, logprobs))
        right = right and all(0 <= token < self.tokenizer.vocab_size for token in ids)
        right = right and logprobs == sorted(logprobs, reverse=True) and float(np.exp(logprobs).sum()) < 1.01
        if not (right or hidden):
            raise Different("a list that is wrong was taken")


def targets() -> list[Target]:
    """Those of this file."""
    return [
        Target("events", STREAMS, split, (EventTooLarge,), 0.30, of_json=False),
        Target("json", JSONS, read_json, (ValueError, MalformedTopK), 0.25),
        Target("errors", JSONS, told_error, (), 0.05),
        Target("drafts", JSONS, _Boxes().draft, (), 0.10),
    ]
