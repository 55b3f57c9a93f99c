"""One upstream of a pool: its probed box, how it fares, and what it has cost."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from deltaserve.errors import MalformedTopK, UpstreamBusy, UpstreamError
from deltaserve.server.decoding.protocols import BlockScorer, NamedIds
from deltaserve.server.upstream.cost import Cost
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.http.refusals import Refusal
from deltaserve.server.upstream.pool.breaker import Breaker

_FAILS: Final = "The upstream failed several times in a row and is left alone for a while."
_DOUBTFUL: Final = "A connection to the upstream was lost, and it has to show that it is still the same."
_OF_THE_SERVER: Final = (401, 403, 404, 405)  # refusals of who asks or where, whatever is asked


@dataclass(slots=True, eq=False)
class Member:
    """`name`: how operators know it, in logs and metrics."""

    name: str
    box: CompletionsBox
    scorer: BlockScorer | None = None  # checks blocks that the pair drafts, where that pays
    names: NamedIds | None = None  # tells the numbers of ids that it is asked for by name
    breaker: Breaker = field(default_factory=Breaker)
    answers: int = 0  # that go on here
    failures: int = 0
    cost: Cost = field(default_factory=Cost)
    held_to_k: int | None = None  # alternatives that it must list, as the others do; None: there are no others

    @property
    def unlike(self) -> str | None:
        """Why its answers are not the others' any more."""
        k = self.box.capabilities.k
        if self.held_to_k in (None, k):
            return None
        return f"The upstream is kept out: it lists {k} alternatives at a position, the others {self.held_to_k}."

    @property
    def problem(self) -> str | None:
        """Why it is not asked now, as far as that is known to last."""
        return self.unlike or self.box.problem() or (_FAILS if self.breaker.resting else None)

    @property
    def fault(self) -> str | None:
        """Why it is not asked now."""
        return self.problem or (_DOUBTFUL if self.box.doubtful else None)

    @property
    def usable(self) -> bool:
        """Whether it may be asked, now or when the breaker lets it."""
        return self.unlike is None and not self.box.doubtful and self.box.problem() is None

    @property
    def load(self) -> float:
        """Answers that go on here, as a share of its slots where it says how many it has."""
        return self.answers / (self.box.capabilities.slots or 1)

    def wait_s(self, tokens: int = 0) -> float:
        """Seconds until it may be asked, as far as is known."""
        return max(self.breaker.wait_s, self.box.throttle.wait_s(tokens))

    @contextmanager
    def judged(self) -> Iterator["Judge"]:
        """Around one call: the breaker hears how it went."""
        judge = Judge(self, self.breaker.begin())
        try:
            yield judge
        except UpstreamError as error:
            judge.heard(error)
            raise
        finally:
            judge.leave()

    def describe(self) -> dict[str, Any]:
        """As plain JSON types."""
        throttle = self.box.throttle
        return {
            "name": self.name,
            "state": "serving" if self.fault is None else "kept out" if self.unlike else "ejected",
            "fault": self.fault,
            "answers": self.answers,
            "failures": self.failures,
            "times_ejected": self.breaker.opened,
            "refusals": throttle.refusals,
            "waiting_calls": throttle.queued,
            "pause_s": round(throttle.pause_s, 3),
            "calls": self.cost.calls,
            "prompt_tokens": self.cost.prompt_tokens,
            "cached_tokens": self.cost.cached_tokens,
            "completion_tokens": self.cost.generated_tokens,
        }


@dataclass(slots=True)
class Judge:
    """What one call says of a member."""

    member: Member
    trial: bool  # the breaker waits for it
    excused: UpstreamError | None = None  # an error of another call, which was made while this one went on
    _answered: bool = False
    _failed: bool = False

    def answered(self) -> None:
        """It began to answer. Whether it does so to the end is not waited for where the breaker waits."""
        self._answered = True
        if self.trial:
            self.member.breaker.succeeded()

    def heard(self, error: UpstreamError) -> None:
        """The call ended with it. An error that is no fault of the server's says that it is there.

        So does a wrong list where there is no other server: some prompts lead to one, and leaving the only server alone
        would make all other answers wait.
        """
        if error is self.excused or not is_fault(error):
            return
        self.member.failures += 1
        if isinstance(error, MalformedTopK) and self.member.held_to_k is None:
            self._answered = True
        else:
            self._failed = True
            self.member.breaker.failed(trial=self.trial and not self._answered)

    def leave(self) -> None:
        if self._answered and not self._failed:
            self.member.breaker.succeeded()
        elif not self._failed:
            self.member.breaker.abandoned(trial=self.trial)


def is_fault(error: UpstreamError) -> bool:
    """Whether another server might not have raised it."""
    if isinstance(error, UpstreamBusy):
        return False  # it works, and the throttle knows what to do
    if isinstance(error, Refusal):
        return error.http_status in _OF_THE_SERVER
    return error.retryable or isinstance(error, MalformedTopK)
