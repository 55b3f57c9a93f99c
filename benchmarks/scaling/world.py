"""A fleet as events: people ask, replicas answer through black boxes, replicas are killed and cut off.

An answer is a call (first token later where the box must compute the prefix), then runs of tokens, each as long as
the replica's and the box's load at its beginning says; a replaced token ends the call and opens the next one.
"""

import heapq
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from benchmarks.scaling.arrivals import Trace, steady
from benchmarks.scaling.costs import Costs, Stage
from benchmarks.scaling.machines import Answer, Box, Cache, Pace, Replica, Talk

T = TypeVar("T")
_QUESTION = 20  # tokens of a further question
_BLOCK = 32  # tokens of a prefix that are computed anew even if the rest is known


@dataclass(frozen=True, slots=True)
class Plan:
    """What is simulated. Times in seconds, lengths in tokens."""

    replicas: int
    boxes: int
    sessions: int
    seconds: float = 30.0
    warm_s: float = 15.0
    affinity: bool = True
    retry: bool = True  # the proxy asks another replica where one refuses
    trace: Trace = steady
    think_s: float = 5.0
    prompt: int = 500  # of a conversation's first question
    answer: int = 200
    even: bool = False  # answers of one length
    turns: int = 6
    run: int = 32  # tokens at most between two looks at the load
    health_s: float = 0.5
    contact_s: float = 30.0
    start_s: float = 20.0
    killed: int = 0  # replicas, at `fault_s`
    cut_off: int = 0  # from the fleet's store, from `fault_s` to `healed_s`
    fault_s: float = 20.0
    healed_s: float = 60.0
    seed: int = 1


@dataclass(slots=True)
class Tally:
    """After the warm-up."""

    tokens: int = 0
    answers: int = 0
    torn: int = 0
    refused: int = 0
    restarts: int = 0
    restart_hits: int = 0
    calls: int = 0
    call_hits: int = 0
    first_s: list[float] = field(default_factory=list)


class World:
    """One run. `run` gives the tally."""

    def __init__(self, plan: Plan, costs: Costs, pace: Pace, machine: Stage | None = None) -> None:
        """`machine`: work that all replicas and black boxes share."""
        self.plan, self.costs, self.tally, self._machine = plan, costs, Tally(), machine
        self.now = 0.0
        self._random = random.Random(plan.seed)
        self.replicas = [Replica() for _ in range(plan.replicas)]
        self.boxes = [Box(pace, Cache(pace.cache_tokens)) for _ in range(plan.boxes)]
        self._token_s = [0.0, *(costs.token_s(n) for n in range(1, costs.streams + 1))]
        self._events: list[tuple[float, int, Callable[..., None], Any]] = []
        self._count = 0
        self._talks = [self._talk(self._random.random()) for _ in range(plan.sessions)]

    def run(self) -> Tally:
        cycle_s = self.plan.think_s + self.plan.answer * self.boxes[0].pace.token_s
        for session in range(self.plan.sessions):
            self._after(self._random.random() * cycle_s, self._ask, session)
        self._after(self.plan.warm_s, self._count_anew, None)
        self._plan_faults()
        end = self.plan.seconds
        while self._events and self._events[0][0] < end:
            self.now, _, event, subject = heapq.heappop(self._events)
            event(subject)
        return self.tally

    def _count_anew(self, _: None) -> None:
        self.tally = Tally()

    # people

    def _ask(self, session: int) -> None:
        replica = self._front(session)
        if replica is None or not replica.answers:
            self.tally.refused += 1
            self._after(1.0, self._ask, session)  # Retry-After
            return
        mean = self.plan.answer
        talk, length = self._talks[session], mean if self.plan.even else 1 + int(self._random.expovariate(1 / mean))
        answer = Answer(session, talk, length, self._until_restart(), replica, replica.life, asked=self.now)
        if replica.active < self.costs.streams:
            self._begin(answer)
        else:
            replica.queue.append(answer)

    def _front(self, session: int) -> Replica | None:
        """Where the proxy sends it; one that refuses counts as away if the proxy tries again. None: all are away."""
        return next(
            (one for one in self._ways(self._talks[session]) if one.listed and (one.answers or not self.plan.retry)),
            None,
        )

    def _ways(self, talk: Talk) -> Iterator[Replica]:
        """The conversation's own replica, then others; without affinity the less loaded of two, then others."""
        count = len(self.replicas)
        if self.plan.affinity:
            yield self.replicas[talk.home]
            first = talk.spare
        else:
            pair = self._any(self.replicas), self._any(self.replicas)
            yield min(pair, key=lambda one: one.active + len(one.queue))
            first = self._random.randrange(count)
        for step in range(count):
            yield self.replicas[(first + step) % count]

    def _thinks(self, answer: Answer) -> None:
        talk = answer.talk
        talk.tokens += answer.done + _QUESTION
        if talk.tokens > self._longest:
            self._talks[answer.session] = self._talk(0.0)
        rate = self.plan.trace(self.now) / self.plan.think_s
        self._after(self._random.expovariate(rate), self._ask, answer.session)

    def _talk(self, share: float) -> Talk:
        """A conversation of which this share has been said."""
        tokens = self.plan.prompt + int(share * (self._longest - self.plan.prompt))
        home, spare = (self._random.randrange(len(self.replicas)) for _ in range(2))
        return Talk(tokens, home, spare)

    @property
    def _longest(self) -> int:
        return self.plan.prompt + self.plan.turns * self.plan.answer

    # answers

    def _begin(self, answer: Answer) -> None:
        answer.replica.active += 1
        self._call(answer)

    def _call(self, answer: Answer) -> None:
        box = answer.box = self._box(answer)
        box.active += 1
        prefix = answer.talk.tokens + answer.done
        unknown = max(prefix - box.cache.known(answer.talk), 0)
        self.tally.calls += 1
        hit = unknown <= _BLOCK
        if hit:
            self.tally.call_hits += 1
        if answer.restarts:
            self.tally.restarts += 1
            if hit:
                self.tally.restart_hits += 1
        box.cache.computed(answer.talk, prefix)
        added_s = 0.0 if answer.restarts else 1e-3 * self.costs.added_first_ms
        self._after(box.pace.first_s + unknown * box.pace.prefill_s + added_s, self._flow, answer)

    def _box(self, answer: Answer) -> Box:
        """The one that knows the prefix; else, and without affinity always, the less loaded of two."""
        talk, teller = answer.talk, (answer.replica, answer.life)
        if self.plan.affinity and talk.box is not None and talk.known_to == teller:
            return talk.box
        one, other = self._any(self.boxes), self._any(self.boxes)
        talk.known_to, talk.box = teller, one if one.active <= other.active else other
        return talk.box

    def _any(self, some: Sequence[T]) -> T:
        return some[int(self._random.random() * len(some))]

    def _flow(self, answer: Answer) -> None:
        box = answer.box
        if answer.torn or box is None:
            self._ended(answer)
            return
        if not answer.done:
            self.tally.first_s.append(self.now - answer.asked)
        run = min(answer.left, answer.until_restart, self.plan.run)
        token_s = max(self._token_s[answer.replica.active], box.token_s(), self._shared_s())
        answer.left, answer.until_restart, answer.done = (
            answer.left - run, answer.until_restart - run, answer.done + run
        )  # fmt: skip
        self._after(run * token_s, self._flowed, (answer, run))

    def _shared_s(self) -> float:
        return self._machine.token_s(sum(box.active for box in self.boxes)) if self._machine else 0.0

    def _flowed(self, flowed: tuple[Answer, int]) -> None:
        answer, run = flowed
        if answer.torn or not answer.left:
            self.tally.tokens += 0 if answer.torn else run
            self._ended(answer)
            return
        self.tally.tokens += run
        if answer.until_restart:
            self._flow(answer)
            return
        self._leave_box(answer)
        answer.restarts, answer.until_restart = True, self._until_restart()
        self._call(answer)

    def _ended(self, answer: Answer) -> None:
        self._leave_box(answer)
        if answer.torn:
            self.tally.torn += 1
            self._after(1.0, self._ask, answer.session)
            return
        self.tally.answers += 1
        replica = answer.replica
        replica.active -= 1
        if replica.queue:
            self._begin(replica.queue.popleft())
        self._thinks(answer)

    def _leave_box(self, answer: Answer) -> None:
        if answer.box is not None:
            answer.box.active -= 1
            answer.box.cache.computed(answer.talk, answer.talk.tokens + answer.done)
            answer.box = None

    def _until_restart(self) -> int:
        each = self.costs.restarts_per_100 / 100
        return 1 + int(self._random.expovariate(each)) if each else 1 << 30

    # faults

    def _plan_faults(self) -> None:
        plan = self.plan
        for replica in self.replicas[: plan.killed]:
            self._after(plan.fault_s, self._kill, replica)
        for replica in self.replicas[plan.killed : plan.killed + plan.cut_off]:
            self._after(plan.fault_s + plan.contact_s, self._fence, replica)
            self._after(max(plan.healed_s, plan.fault_s + plan.contact_s), self._heal, replica)

    def _kill(self, replica: Replica) -> None:
        for answer in replica.queue:
            self.tally.torn += 1
            self._after(1.0, self._ask, answer.session)
        replica.alive, replica.active = False, 0
        replica.life += 1
        replica.queue.clear()
        self._after(self.plan.health_s, self._look, replica)
        self._after(self.plan.start_s, self._heal, replica)

    def _fence(self, replica: Replica) -> None:
        replica.fenced = True
        self._after(self.plan.health_s, self._look, replica)

    def _heal(self, replica: Replica) -> None:
        replica.alive, replica.fenced = True, False
        self._after(self.plan.health_s, self._look, replica)

    def _look(self, replica: Replica) -> None:
        replica.listed = replica.answers

    def _after(self, seconds: float, event: Callable[..., None], subject: Any) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now + seconds, self._count, event, subject))
