"""Faults on demand, for tests of clients: which request is hit is decided by counting, never by chance.

A fault is `KIND[:VALUE]`. Armed three ways: header `X-Fault: KIND[:VALUE]` on a request; `POST /faults
{"fault": "KIND:VALUE", "times": 1, "after": 0}`; option `--faults "3=KIND:VALUE,7=KIND"` (the 3rd and 7th request).

| kind | value | what happens |
| --- | --- | --- |
| status | 503 or 503/2 | that status instead of an answer, with Retry-After: 2 when given |
| disconnect | tokens before it | the connection is closed without an end |
| stall | tokens before it | nothing more is sent; the connection stays open |
| end | tokens before it | the answer ends cleanly, without finish_reason and [DONE] |
| error | tokens before it | an error event, then [DONE], as vLLM does |
| truncate | tokens before it | half a JSON frame, then a clean end |
| nan, positive, unsorted, repeated, range, heavy, empty | token it hits | its list of alternatives is damaged |
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from deltaserve.offset_models.demo.blackbox.generation.sequence import Token
from deltaserve.offset_models.demo.blackbox.http.errors import ApiError

BREAKS = frozenset({"disconnect", "stall", "end", "error", "truncate"})


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: `kind` and its number (tokens already sent, position hit, or an HTTP status)."""

    kind: str
    value: int = 0
    retry_after_s: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """`KIND[:VALUE]`; raises ApiError for anything else."""
        kind, _, value = text.strip().partition(":")
        number, _, retry = value.partition("/")
        if kind not in BREAKS | DAMAGES.keys() | {"status"} or not all(v.isdigit() for v in (number, retry) if v):
            raise ApiError(f"unknown fault; one of {', '.join(sorted(BREAKS | DAMAGES.keys()))}, status", param="fault")
        return cls(kind, int(number or (500 if kind == "status" else 0)), int(retry) if retry else None)

    def breaks_at(self, tokens: int) -> bool:
        """Whether the answer breaks once so many tokens were sent."""
        return self.kind in BREAKS and tokens >= self.value

    def damage(self, token: Token, position: int, vocab_size: int) -> Token:
        """The token as it is sent to the client."""
        if self.kind not in DAMAGES or position != self.value or not token.top_ids:
            return token
        ids, logprobs = DAMAGES[self.kind](list(token.top_ids), list(token.top_logprobs), vocab_size)
        return replace(token, top_ids=ids, top_logprobs=logprobs, damaged=True)


Lists = tuple[list[int], list[float]]


def _nan(ids: list[int], logprobs: list[float], _: int) -> Lists:
    logprobs[-1] = float("nan")
    return ids, logprobs


def _positive(ids: list[int], logprobs: list[float], _: int) -> Lists:
    logprobs[0] = 0.5
    return ids, logprobs


def _unsorted(ids: list[int], logprobs: list[float], _: int) -> Lists:
    return ids[::-1], logprobs[::-1]


def _repeated(ids: list[int], logprobs: list[float], _: int) -> Lists:
    return [*ids[:-1], ids[0]], logprobs


def _out_of_range(ids: list[int], logprobs: list[float], vocab_size: int) -> Lists:
    return [*ids[:-1], vocab_size + 7], logprobs


def _heavy(ids: list[int], logprobs: list[float], _: int) -> Lists:
    return ids, [-0.1] * len(logprobs)  # together more than all the mass there is


def _empty(_: list[int], __: list[float], ___: int) -> Lists:
    return [], []


DAMAGES: dict[str, Callable[[list[int], list[float], int], Lists]] = {
    "nan": _nan,
    "positive": _positive,
    "unsorted": _unsorted,
    "repeated": _repeated,
    "range": _out_of_range,
    "heavy": _heavy,
    "empty": _empty,
}


@dataclass(slots=True)
class _Armed:
    fault: Fault
    skip: int  # requests to let pass first
    times: int  # requests to hit


class FaultPlan:
    """Counts generation requests and says which fault, if any, hits each."""

    def __init__(self, spec: str) -> None:
        self._armed: list[_Armed] = []
        for item in filter(None, spec.split(",")):
            number, _, fault = item.partition("=")
            if not number.strip().isdigit() or int(number) < 1:
                raise ValueError(f"--faults wants N=KIND[:VALUE] with N from 1, got {item!r}")
            try:
                self.arm(Fault.parse(fault), after=int(number) - 1)
            except ApiError as error:
                raise ValueError(f"--faults: {error.message}") from None

    def arm(self, fault: Fault, *, after: int = 0, times: int = 1) -> None:
        """Hits `times` requests once `after` more have passed."""
        self._armed.append(_Armed(fault, after, times))

    def disarm(self) -> None:
        self._armed.clear()

    def next(self, header: str | None) -> Fault | None:
        """The fault of the request that has just come in."""
        hit: Fault | None = Fault.parse(header) if header else None
        for armed in self._armed:
            if armed.skip:
                armed.skip -= 1
            elif hit is None:
                armed.times -= 1
                hit = armed.fault
        self._armed = [armed for armed in self._armed if armed.times > 0]
        return hit

    def describe(self) -> list[dict[str, object]]:
        """What is still armed."""
        return [{"kind": a.fault.kind, "value": a.fault.value, "after": a.skip, "times": a.times} for a in self._armed]
