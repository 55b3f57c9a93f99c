"""Ids that are asked for by name: their true numbers after exactly each prefix, or an error."""

from typing import Any

import numpy as np
import pytest

from deltaserve.errors import MalformedTopK, UpstreamError, UpstreamUnreachable
from deltaserve.server.decoding.protocols import DraftParams
from deltaserve.server.upstream.http.throttle import Rates, Throttle
from deltaserve.server.upstream.listing.named import named_ids
from deltaserve.server.upstream.probing.connect import Prober, connect
from tests.server.upstream.conformance.rows import KEY, ROWS, K, Row, opened
from tests.server.upstream.conformance.test_errors import MEANING, require_silent
from tests.support.replay import Request, replaying
from tests.support.standins.base import Position
from tests.support.standins.oracle import KINDS, PROMPT, SIZE, TOKENIZER, logprobs

pytestmark = pytest.mark.anyio

TELLING = [row for row in ROWS if row.dialect in ("vllm", "sglang")]
each_telling = pytest.mark.parametrize("row", TELLING, ids=lambda row: row.name)
each_other = pytest.mark.parametrize("row", [row for row in ROWS if row not in TELLING], ids=lambda row: row.name)
IDS = np.array([SIZE - 1, 3, 97, 250, 256])
ABLE = {"named_ids": 128}


@each_telling
@pytest.mark.parametrize("kind", KINDS)
async def test_the_numbers_are_those_after_exactly_this_prefix(row: Row, kind: str) -> None:
    prefixes = [[*PROMPT, *KINDS[kind]], list(PROMPT), [*PROMPT, 97]]
    async with opened(row, facts=ABLE) as (box, replay):
        names = named_ids(box)
        assert names is not None
        told = await names.named(prefixes, IDS)
    assert len(replay.bodies(box.path)) == 1
    for prefix, numbers in zip(prefixes, told, strict=True):
        np.testing.assert_allclose(numbers, logprobs(prefix)[IDS], atol=1e-6)


@each_telling
async def test_one_call_tells_how_it_goes_on_behind_another_token(row: Row) -> None:
    async with opened(row, facts=ABLE) as (box, replay):
        names = named_ids(box)
        assert names is not None and names.goes_on == (row.dialect == "vllm")
        if not names.goes_on:
            return
        told = await names.ahead(PROMPT, 97, IDS, 3)
        unsure = named_ids(box.knowing(raw_logprobs=False, greedy_raw=False))
        assert unsure is not None and not unsure.goes_on  # what it would draw is not its best token
    assert len(replay.bodies(box.path)) == 1
    np.testing.assert_allclose(told.logprobs, logprobs(PROMPT)[IDS], atol=1e-6)
    prefix = [*PROMPT, 97]
    for proposal in told.proposals:
        whole = logprobs(prefix)
        assert proposal.token_id == int(whole.argmax()) and proposal.unlisted and not proposal.named
        np.testing.assert_allclose(proposal.top_logprobs, whole[proposal.top_ids], atol=1e-6)
        assert {*IDS.tolist(), proposal.token_id} == set(proposal.top_ids.tolist())
        prefix.append(proposal.token_id)
    assert len(told.proposals) == 3 and told.drawn == 6


BESIDE = [row for row in TELLING if row.dialect == "sglang"]
each_beside = pytest.mark.parametrize("row", BESIDE, ids=lambda row: row.name)


@each_telling
async def test_a_draft_tells_them_beside_its_lists_where_it_says_so(row: Row) -> None:
    async with opened(row, facts=ABLE, script=[97, 98, 99]) as (box, replay):
        names = named_ids(box)
        assert names is not None and names.beside == (row in BESIDE)
        async with box.draft(PROMPT, DraftParams(0.0, 3, names=IDS if names.beside else None)) as draft:
            proposals = [proposal async for proposal in draft]
    (body,) = replay.bodies(box.path)
    assert body.get("token_ids_logprob") == (IDS.tolist() if names.beside else None)
    prefix = list(PROMPT)
    for proposal in proposals:
        assert (proposal.beside is not None) == names.beside
        if proposal.beside is not None:
            ids, numbers = proposal.beside
            assert ids.tolist() == sorted(IDS.tolist())
            np.testing.assert_allclose(numbers, logprobs(prefix)[ids], atol=1e-6)
        prefix.append(int(proposal.token_id or 0))
    assert len(proposals) == 3


@each_beside
@pytest.mark.parametrize("named", [0, 5, 160])
async def test_a_call_is_no_longer_than_its_repeated_lists_may_weigh(row: Row, named: int) -> None:
    async with opened(row, facts=ABLE) as (box, _):
        body = box.request(PROMPT, 0.0, DraftParams(0.0, 4096, names=np.arange(named)))
    tokens = body["sampling_params"]["max_new_tokens"]
    assert tokens**2 * (K + named) <= 128**2 * 20 and tokens == (128 if named < 15 else 44)


@each_beside
async def test_positions_that_have_no_numbers_yet_are_positions_all_the_same(row: Row) -> None:
    def late(answer: list[Position]) -> None:
        answer[-1].named = []

    async with (
        opened(row, facts=ABLE, script=[97, 98, 99], spoil=late) as (box, _),
        box.draft(PROMPT, DraftParams(0.0, 3, names=IDS)) as draft,
    ):
        proposals = [proposal async for proposal in draft]
    assert [proposal.token_id for proposal in proposals] == [97, 98, 99]
    assert proposals[-1].beside is None or not proposals[-1].beside[0].size


def _twice(position: Position) -> None:
    position.named = [*position.named, *position.named[:1]]


@each_beside
@pytest.mark.parametrize("spoil", [lambda p: _above_zero(p), _twice], ids=["above zero", "twice"])
async def test_numbers_beside_a_list_that_cannot_be_are_an_error(row: Row, spoil: Any) -> None:
    async with (
        opened(row, facts=ABLE, spoil=lambda answer: [spoil(each) for each in answer]) as (box, _),
        box.draft(PROMPT, DraftParams(0.0, 2, names=IDS)) as draft,
    ):
        with pytest.raises(MalformedTopK):
            [proposal async for proposal in draft]


@each_beside
async def test_a_draft_that_tells_none_is_a_draft_all_the_same(row: Row) -> None:
    async with (
        opened(row, facts=ABLE, spoil=lambda answer: [_none(each) for each in answer]) as (box, _),
        box.draft(PROMPT, DraftParams(0.0, 2, names=IDS)) as draft,
    ):
        proposals = [proposal async for proposal in draft]
    assert len(proposals) == 2 and all(p.beside is None or not p.beside[0].size for p in proposals)


@each_telling
async def test_the_probe_finds_them(row: Row) -> None:
    async with replaying(row.stand_in()) as replay:
        box = await connect(replay.url, tokenizer=TOKENIZER, k=K, **row.how)
        assert box.capabilities.named_ids == 128
        names = named_ids(box)
        assert names is not None and names.most == 128
        (numbers,) = await names.named([PROMPT], IDS)
        await box.aclose()
    np.testing.assert_allclose(numbers, logprobs(PROMPT)[IDS], atol=1e-6)


@each_other
async def test_who_does_not_tell_them_is_not_asked(row: Row) -> None:
    async with replaying(row.stand_in()) as replay:
        box = await connect(replay.url, tokenizer=TOKENIZER, k=K, **row.how)
        assert box.capabilities.named_ids == 0 and named_ids(box) is None
        await box.aclose()
    assert not any("logprob_token_ids" in str(r.body) or "token_ids_logprob" in str(r.body) for r in replay.requests)


def _another(position: Position) -> None:
    position.named = [(i, value - 2.0) for i, value in position.named]


def _one_missing(position: Position) -> None:
    position.named = position.named[:-1]


def _above_zero(position: Position) -> None:
    position.named = [(i, value + 20.0) for i, value in position.named]


def _none(position: Position) -> None:
    position.named = []


@each_telling
@pytest.mark.parametrize("spoil", [_another, _one_missing, _none], ids=lambda spoil: spoil.__name__)
async def test_a_server_that_tells_other_numbers_or_not_all_is_not_believed(row: Row, spoil: Any) -> None:
    async with replaying(row.stand_in(spoil=lambda answer: [spoil(each) for each in answer])) as replay:
        box = await connect(replay.url, tokenizer=TOKENIZER, k=K, **row.how)
        await box.aclose()
    assert box.capabilities.named_ids == 0


def _short_beside_names(answer: list[Position]) -> None:
    """As vLLM's V1 runner, of the one long answer that the probe asks for."""
    if len(answer) > 32:
        answer[1].ids, answer[1].logprobs = answer[1].ids[:1], answer[1].logprobs[:1]


@each_telling
async def test_ids_are_not_named_where_that_shortens_the_lists_of_other_calls(row: Row) -> None:
    async with replaying(row.stand_in(script=[97] * 64, spoil=_short_beside_names)) as replay:
        box = await connect(replay.url, tokenizer=TOKENIZER, k=K, **row.how)
        await box.aclose()
    assert box.capabilities.named_ids == 0 and named_ids(box) is None
    assert any("V1 model runner" in note for note in box.capabilities.notes)


@each_telling
@pytest.mark.parametrize("spoil", [_one_missing, _above_zero, _none], ids=lambda spoil: spoil.__name__)
async def test_numbers_that_are_missing_or_cannot_be_are_an_error(row: Row, spoil: Any) -> None:
    async with opened(row, facts=ABLE, spoil=lambda answer: [spoil(each) for each in answer]) as (box, _):
        names = named_ids(box)
        assert names is not None
        with pytest.raises(MalformedTopK):
            await names.named([PROMPT, [*PROMPT, 97]], IDS)
        if names.goes_on:
            with pytest.raises(MalformedTopK):
                await names.ahead(PROMPT, 97, IDS, 2)


@each_telling
@pytest.mark.parametrize("status", MEANING)
async def test_errors_mean_the_same_as_in_a_draft(row: Row, status: int) -> None:
    async with opened(row, facts=ABLE, status=status, key=KEY) as (box, _):
        names = named_ids(box)
        assert names is not None
        with pytest.raises(UpstreamError) as caught:
            await names.named([PROMPT], IDS)
    assert isinstance(caught.value, MEANING[status])
    require_silent(caught.value.message)


@each_telling
async def test_one_call_at_a_time_is_enough_to_look_whether_names_disturb(row: Row) -> None:
    async with replaying(row.stand_in(script=[97] * 64)) as replay:
        alone = Throttle(Rates(at_once=1))
        prober = Prober(replay.url, TOKENIZER, None, "auto", K, None, None, None, None, True, throttle=alone)
        box, _ = await prober.probed(None)
        await box.aclose()
    assert box.capabilities.named_ids == 128


@each_telling
async def test_who_refuses_an_answer_without_an_end_is_taken_all_the_same(row: Row) -> None:
    good = row.stand_in()
    async with replaying(lambda asked: good.error(400) if _endless(asked) else good(asked)) as replay:
        box = await connect(replay.url, tokenizer=TOKENIZER, k=K, **row.how)
        await box.aclose()
        assert any(map(_endless, replay.requests))
    assert box.capabilities.named_ids == 128


@each_telling
async def test_a_look_whether_names_disturb_that_is_cut_is_told_as_such(row: Row) -> None:
    good, cut = row.stand_in(), row.stand_in(script=[97] * 64, cut_after=2)
    async with replaying(lambda asked: (cut if _endless(asked) else good)(asked)) as replay:
        with pytest.raises(UpstreamUnreachable):
            await connect(replay.url, tokenizer=TOKENIZER, k=K, **row.how)


def _endless(asked: Request) -> bool:
    body = asked.body or {}
    return bool(body.get("ignore_eos") or body.get("sampling_params", {}).get("ignore_eos"))
