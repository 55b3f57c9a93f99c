"""What crosses between front-ends and the engine arrives as it was sent, however the bytes are cut."""

import asyncio
import inspect
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaserve import errors
from deltaserve.errors import DeltaserveError, ModelNotFound, RateLimited
from deltaserve.server.decoding.constraints.words import Words
from deltaserve.server.decoding.deciding.corrector import Agreement, Decision
from deltaserve.server.decoding.deciding.naming import NamesWanted
from deltaserve.server.decoding.explanation import Explanation
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Guard, Naming, Policy
from deltaserve.server.decoding.protocols import Proposal
from deltaserve.server.decoding.scoring import ScoredToken
from deltaserve.server.processes.wire import messages as m
from deltaserve.server.processes.wire.frames import Wire
from deltaserve.server.processes.wire.translation import (
    EngineDefect,
    TextReceiver,
    TextSender,
    decided,
    decision,
    error,
    fault,
    listed,
    names_wanted,
    proposal,
    scored,
    scored_token,
    wanted,
)

pytestmark = pytest.mark.anyio

numbers = st.floats(allow_nan=False)
ids = st.lists(st.integers(0, 2**31), max_size=5).map(lambda found: np.array(found, np.int64))
lists = ids.flatmap(lambda found: st.tuples(st.just(found), st.just(np.linspace(-1, -9, found.size))))
maybe_id = st.none() | st.integers(0, 2**31)


def over(kind: Any, wire: Any) -> Any:
    """`wire` after a journey."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(wire), type=kind)


def same(one: Any, other: Any) -> bool:
    """Equality that looks into arrays."""
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if hasattr(one, "__dataclass_fields__"):
        fields = one.__dataclass_fields__
        return type(one) is type(other) and all(same(getattr(one, f), getattr(other, f)) for f in fields)
    return bool(one == other)


@given(maybe_id, lists, st.none() | numbers, st.booleans(), maybe_id, st.none() | numbers)
def test_a_proposal_arrives_as_it_was(
    token_id: int | None, listing: Any, logprob: float | None, local: bool, end_id: int | None, cap: float | None
) -> None:
    sent = Proposal(token_id, *listing, None, logprob, local, end_id, cap, named=local)
    assert same(proposal(over(m.Listed, listed(sent))), sent)


@given(st.lists(st.tuples(st.integers(0, 9), ids), max_size=3), maybe_id)
def test_wanted_names_arrive_as_they_were(names: list[tuple[int, Any]], likely: int | None) -> None:
    sent = over(m.Decisions, m.Decisions(3, [], wanted(NamesWanted(names, likely)), likely=likely))
    arrived = names_wanted(sent.wanted, sent.likely)
    assert [(place, some.tolist()) for place, some in arrived.names] == [
        (place, some.tolist()) for place, some in names
    ]
    assert arrived.likely == likely


@given(
    st.none() | st.booleans(), numbers, st.none() | numbers, st.none() | lists, st.booleans(), st.none() | numbers, ids
)
def test_a_decision_arrives_as_it_was(
    certified: bool | None, mass: float, logprob: float | None, top: Any, guarded: bool, agreed: float | None, some: Any
) -> None:
    floats = np.linspace(-3, 0, some.size)
    explanation = Explanation(1.5, some, floats, -floats, floats * 2) if guarded else None
    agreement = None if agreed is None else Agreement(agreed, None if guarded else 0.25)
    sent = Decision(7, certified, mass, logprob, top, explanation, guarded, agreement)
    assert same(decision(over(m.Decided, decided(sent))), sent)


@given(st.none() | numbers, st.none() | lists)
def test_a_scored_token_arrives_as_it_was(logprob: float | None, top: Any) -> None:
    sent = ScoredToken(3, logprob, top)
    assert same(scored_token(over(m.Scored, scored(sent))), sent)


def test_parameters_and_policy_arrive_as_they_were() -> None:
    params = SamplingParams(
        max_tokens=9, temperature=0.5, logit_bias={3: -100.0}, seed=-(2**63), min_tokens=2, eos_ids=frozenset({0, 5}),
        stop_token_ids=frozenset({8}), stop_tokens={9: "<end>"}, top_logprobs=0,
        words=Words(12, frozenset({1, 2}), ((1,), (3, 4))), shows_stop=True,
    )  # fmt: skip
    guard, naming = Guard(kl_nats=1.0, unbiased=True), Naming(tail=0.2, certify=True, most=9)
    policy = Policy(tail="truncate", guard=guard, allow_blind=True, naming=naming, explain=3)
    sent = m.Begin(1, m.Text(0, [1, 2]), params, policy, 4)
    assert m.to_engine.decode(msgspec.msgpack.encode([sent])) == [sent]


@pytest.mark.parametrize(
    "kind", [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, DeltaserveError)]
)
def test_every_error_arrives_as_itself(kind: type[DeltaserveError]) -> None:
    sent = kind.__new__(kind)  # some have a sentence of their own
    DeltaserveError.__init__(sent, "what was wrong", param="model", retry_after_s=2.5)
    got = error(over(m.Fault, fault(sent)))
    assert type(got) is kind and isinstance(got, DeltaserveError)
    assert (got.message, got.param, got.retry_after_s) == (sent.message, "model", 2.5)


def test_an_error_of_a_class_of_its_own_arrives_as_the_class_it_belongs_to() -> None:
    class Special(RateLimited): ...

    assert type(error(fault(Special("busy")))) is RateLimited


def test_a_defect_arrives_as_a_defect_with_nothing_of_its_text() -> None:
    got = error(fault(ValueError("a prompt's text")))
    assert isinstance(got, EngineDefect) and str(got) == "ValueError"


@given(st.lists(st.lists(st.integers(0, 3), max_size=8), max_size=6))
def test_the_receiver_of_texts_has_each_as_it_was_told(texts: list[list[int]]) -> None:
    sender, receiver = TextSender(), TextReceiver()
    assert [list(receiver.heard(sender.told(text))) for text in texts] == texts


def test_of_a_text_that_goes_on_only_what_is_new_is_told() -> None:
    sender = TextSender()
    sender.told([1, 2, 3])
    assert sender.told([1, 2, 3, 4]) == m.Text(3, [4])


class Ends(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


def wire(received: list[Any]) -> tuple[Wire[Any], Ends]:
    made: Wire[Any] = Wire(
        m.to_engine, received.append, lambda: received.append("lost"), lambda message, _: received.append(message)
    )
    ends = Ends()
    made.connection_made(ends)
    return made, ends


async def test_messages_of_one_turn_leave_in_one_write_and_in_order() -> None:
    one, ends = wire([])
    sent = [m.Drop(number) for number in range(5)]
    for message in sent:
        one.send(message)
    assert ends.written == []
    await asyncio.sleep(0)
    assert len(ends.written) == 1
    received: list[Any] = []
    wire(received)[0].data_received(ends.written[0])
    assert received == sent


async def test_a_message_that_no_frame_can_hold_does_not_take_the_others_with_it() -> None:
    told: list[Any] = []
    one, ends = wire(told)
    good, bad = [m.Drop(1), m.Drop(2)], m.Ask(3, "audit", {"before": 10**30})
    for message in (good[0], bad, good[1]):
        one.send(message)
    await asyncio.sleep(0)
    received: list[Any] = []
    wire(received)[0].data_received(ends.written[0])
    assert received == good and told == [bad]


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
async def test_frames_are_read_however_they_are_cut(size: int) -> None:
    one, ends = wire([])
    for number in range(6):
        one.send(m.Drop(number))
        await asyncio.sleep(0)
    raw, received = b"".join(ends.written), []  # type: ignore[var-annotated]
    other, _ = wire(received)
    for start in range(0, len(raw), size):
        other.data_received(raw[start : start + size])
    assert received == [m.Drop(number) for number in range(6)]


async def test_a_frame_that_is_too_long_ends_the_connection() -> None:
    one, ends = wire([])
    one.data_received(b"\xff\xff\xff\xff")
    assert ends.closed


async def test_what_is_sent_on_an_ended_connection_is_lost_in_silence() -> None:
    received: list[Any] = []
    one, ends = wire(received)
    one.send(m.Drop(1))
    one.connection_lost(None)
    await asyncio.sleep(0)
    assert ends.written == [] and received == ["lost"]


def test_not_found_keeps_its_parameter() -> None:
    got = error(fault(ModelNotFound.among("x", ["a"])))
    assert isinstance(got, ModelNotFound) and got.param == "model"
