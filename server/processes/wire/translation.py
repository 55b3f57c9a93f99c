"""Between the core's objects and the messages that carry them. Arrays arrive read-only."""

from collections.abc import Sequence

import numpy as np

from deltaserve import errors
from deltaserve.errors import DeltaserveError
from deltaserve.server.decoding.deciding.corrector import Agreement, Decision
from deltaserve.server.decoding.deciding.naming import NamesWanted
from deltaserve.server.decoding.explanation import Explanation
from deltaserve.server.decoding.protocols import Floats, Ids, Proposal
from deltaserve.server.decoding.scoring import ScoredToken
from deltaserve.server.processes.wire.messages import Decided, Explained, Fault, Listed, Scored, Text

Top = tuple[Ids, Floats] | None


class EngineDefect(RuntimeError):
    """A defect in the engine process, whose log has more of it."""


def listed(proposal: Proposal) -> Listed:
    """What a local draft was drawn from is not told: the engine's side of the stream keeps it."""
    return Listed(
        proposal.token_id,
        _bytes(proposal.top_ids, np.int64),
        _bytes(proposal.top_logprobs, np.float64),
        proposal.token_logprob,
        proposal.local,
        proposal.end_id,
        proposal.log_cap,
        proposal.named,
        proposal.held,
        proposal.masked,
        proposal.whole,
        proposal.unlisted,
    )


def proposal(wire: Listed) -> Proposal:
    return Proposal(
        wire.token_id,
        _ids(wire.top_ids),
        _floats(wire.top_logprobs),
        None,
        wire.token_logprob,
        wire.local,
        wire.end_id,
        wire.log_cap,
        named=wire.named,
        held=wire.held,
        masked=wire.masked,
        whole=wire.whole,
        unlisted=wire.unlisted,
    )


def wanted(names: NamesWanted) -> list[tuple[int, bytes]]:
    return [(place, _bytes(ids, np.int64)) for place, ids in names.names]


def names_wanted(wire: Sequence[tuple[int, bytes]], likely: int | None) -> NamesWanted:
    return NamesWanted([(place, _ids(ids)) for place, ids in wire], likely)


def decided(decision: Decision) -> Decided:
    top, agreement = decision.top, decision.agreement
    return Decided(
        decision.token_id,
        None if decision.certified is None else bool(decision.certified),
        float(decision.tail_mass),
        decision.logprob,
        None if top is None else _bytes(top[0], np.int64),
        None if top is None else _bytes(top[1], np.float64),
        None if decision.explanation is None else _explained(decision.explanation),
        decision.guarded,
        None if agreement is None else agreement.upstream,
        None if agreement is None else agreement.local,
        decision.forced,
        decision.ends,
    )


def decision(wire: Decided) -> Decision:
    upstream = wire.upstream_agreement
    return Decision(
        wire.token_id,
        wire.certified,
        wire.tail_mass,
        wire.logprob,
        _top(wire.top_ids, wire.top_logprobs),
        None if wire.explanation is None else _explanation(wire.explanation),
        wire.guarded,
        None if upstream is None else Agreement(upstream, wire.local_agreement),
        wire.forced,
        wire.ends,
    )


def scored(token: ScoredToken) -> Scored:
    top = token.top
    return Scored(
        token.token_id,
        token.logprob,
        None if top is None else _bytes(top[0], np.int64),
        None if top is None else _bytes(top[1], np.float64),
    )


def scored_token(wire: Scored) -> ScoredToken:
    return ScoredToken(wire.token_id, wire.logprob, _top(wire.top_ids, wire.top_logprobs))


def fault(error: BaseException) -> Fault:
    """The error as its nearest class in `deltaserve.errors`."""
    if not isinstance(error, DeltaserveError):
        return Fault("", type(error).__name__)
    name = next(kind.__name__ for kind in type(error).__mro__ if getattr(errors, kind.__name__, None) is kind)
    return Fault(name, error.message, error.param, error.retry_after_s)


def error(wire: Fault) -> Exception:
    kind = getattr(errors, wire.name, None)
    if not (isinstance(kind, type) and issubclass(kind, DeltaserveError)):
        return EngineDefect(wire.message)
    again = kind.__new__(kind)  # some classes make their sentence themselves
    DeltaserveError.__init__(again, wire.message, param=wire.param, retry_after_s=wire.retry_after_s)
    return again


class TextSender:
    """Tells a text of which the other side knows a part already."""

    def __init__(self) -> None:
        self._known: list[int] = []

    def told(self, token_ids: Sequence[int]) -> Text:
        kept = _shared(self._known, token_ids)
        new = list(token_ids[kept:])
        self._known[kept:] = new
        return Text(kept, new)


class TextReceiver:
    """The other side of a `TextSender`."""

    def __init__(self) -> None:
        self._known: list[int] = []

    def heard(self, text: Text) -> list[int]:
        """The whole text; the list is the receiver's own."""
        self._known[text.kept :] = text.new
        return self._known


def _shared(known: list[int], token_ids: Sequence[int]) -> int:
    """How many ids both begin with."""
    if list(token_ids[: len(known)]) == known:
        return len(known)
    return next((i for i, (a, b) in enumerate(zip(known, token_ids, strict=False)) if a != b), len(token_ids))


def _explained(explanation: Explanation) -> Explained:
    return Explained(
        float(explanation.kl_nats),
        _bytes(explanation.ids, np.int64),
        *(_bytes(part, np.float64) for part in (explanation.before, explanation.offset, explanation.after)),
    )


def _explanation(wire: Explained) -> Explanation:
    return Explanation(wire.kl_nats, _ids(wire.ids), _floats(wire.before), _floats(wire.offset), _floats(wire.after))


def _bytes(array: Ids | Floats, kind: type[np.int64] | type[np.float64]) -> bytes:
    return np.ascontiguousarray(array, kind).tobytes()


def _ids(raw: bytes) -> Ids:
    return np.frombuffer(raw, np.int64)


def _floats(raw: bytes) -> Floats:
    return np.frombuffer(raw, np.float64)


def _top(ids: bytes | None, logprobs: bytes | None) -> Top:
    return None if ids is None or logprobs is None else (_ids(ids), _floats(logprobs))
