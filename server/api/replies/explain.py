"""`explain` rows: before, offset and after of every token. They show the black box, so they need the admin key."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
from starlette.requests import Request

from deltaserve.errors import BadRequest
from deltaserve.server.api.access.privilege import Privilege
from deltaserve.server.api.requests.schema import Generation
from deltaserve.server.decoding.explanation import Explanation
from deltaserve.server.decoding.stream import Step
from deltaserve.server.serving.ports import Tokenizer

Json = dict[str, Any]


def check_explain_allowed(request: Request, body: Generation) -> None:
    """Raises Forbidden, AdminUnauthorized or RateLimited when `explain` is asked for by one who may not see it."""
    if body.explain:
        privilege: Privilege = request.app.state.privilege
        privilege.require(request.headers, "`explain`", "explain")


class ExplainRows:
    """Collects steps; `flush` is the JSON list of their rows since the last flush."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._rows: list[Json] = []

    def add(self, steps: Sequence[Step]) -> None:
        self._rows.extend(map(self._row, steps))

    def flush(self) -> bytes:
        rows = orjson.dumps(self._rows)  # infinities become null
        self._rows.clear()
        return rows

    def _row(self, step: Step) -> Json:
        emitted, proposed, explanation = step.token_id, step.proposed_id, step.explanation
        return {
            **token_json(self._tokenizer, emitted),
            "black_box": None if proposed is None else self._named(proposed),
            "accepted": proposed == emitted,
            "replaced": proposed is not None and proposed != emitted,
            "certified": step.certified,
            **({"forced": True} if step.forced else {}),
            "kl_nats": None if explanation is None else explanation.kl_nats,
            "tail_mass": step.tail_mass,
            "candidates": [] if explanation is None else list(self._candidates(explanation)),
        }

    def _candidates(self, explanation: Explanation) -> Iterator[Json]:
        """Without ids that the black box listed and the tokenizer has not: they have no weight on either side."""
        columns = (explanation.ids, explanation.before, explanation.offset, explanation.after)
        for token_id, before, offset, after in zip(*(column.tolist() for column in columns), strict=True):
            if max(before, after) > -math.inf:
                yield {**self._named(token_id), "before": before, "offset": offset, "after": after}

    def _named(self, token_id: int) -> Json:
        return {"id": token_id, "text": _text(self._tokenizer, token_id)}


def token_json(tokenizer: Tokenizer, token_id: int) -> Json:
    """`bytes`: what the token adds to the answer's text, none for a special one."""
    special = token_id in tokenizer.special_ids
    raw = b"" if special else tokenizer.token_bytes(token_id)
    return {"id": token_id, "text": _text(tokenizer, token_id), "bytes": list(raw)}


def _text(tokenizer: Tokenizer, token_id: int) -> str | None:
    """The token's text, with U+FFFD for half a character; None for an id that the tokenizer does not have."""
    try:
        return tokenizer.token_bytes(token_id).decode(errors="replace")
    except BadRequest:
        return None
