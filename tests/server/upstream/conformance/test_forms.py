"""Grammars: sent in each dialect's own field where that is exact, and to nobody else."""

from typing import Any

import numpy as np
import pytest

from deltaserve.errors import UpstreamRefused
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.grammars.json_schema import json_grammar
from deltaserve.server.grammars.texts import choice_grammar
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.pool.pool import sole
from deltaserve.server.upstream.probing.connect import connect
from tests.server.upstream.conformance.rows import ROWS, K, Row, opened
from tests.support.replay import Replay, Reply, Request, replaying
from tests.support.standins.forms import allowed
from tests.support.standins.oracle import PROMPT, TOKENIZER, logprobs

pytestmark = pytest.mark.anyio

HOLDING = [row for row in ROWS if row.name in ("vllm", "llamacpp", "sglang", "sglang, incremental")]
each_holding = pytest.mark.parametrize("row", HOLDING, ids=lambda row: row.name)
each_other = pytest.mark.parametrize(
    "row", [row for row in ROWS if row.dialect not in ("vllm", "llamacpp", "sglang")], ids=lambda row: row.name
)
FIELDS = ("structured_outputs", "json_schema", "ebnf", "grammar", "response_format", "guided")
TEXT = "Paris is"
CHOICE = choice_grammar([TEXT])
SCHEMA = json_grammar(
    {"type": "object", "properties": {"b": {"const": "the"}}, "required": ["b"], "additionalProperties": False}
).text
SAME = {"holds_forms": True, "same_forms": True, "list_masked": True}
OTHER = {"holds_forms": True, "same_forms": False, "list_masked": False}


async def held(box: CompletionsBox, grammar: str, temperature: float = 0.0, **more: Any) -> list[Proposal]:
    async with box.draft(PROMPT, DraftParams(temperature, 30, grammar=grammar, **more)) as draft:
        assert draft.temperature == (None if box.hidden_draws == "some" else temperature) or not _same(box)
        return [proposal async for proposal in draft]


def _same(box: CompletionsBox) -> bool:
    return box.capabilities.same_forms


def sent(replay: Replay, box: CompletionsBox) -> list[bool]:
    """Of every call whether it had a field for a form."""
    return [any(name in str(body) for name in FIELDS) for body in replay.bodies(box.path)]


def text_of(proposals: list[Proposal]) -> str:
    ids = [proposal.token_id for proposal in proposals]
    return b"".join(TOKENIZER.token_bytes(i) for i in ids if i is not None and i not in TOKENIZER.special_ids).decode()


@each_holding
@pytest.mark.parametrize("masks", [True, False], ids=["masked", "unmasked"])
async def test_a_black_box_with_our_engine_is_sent_any_grammar_and_its_lists_are_what_they_are(
    row: Row, masks: bool
) -> None:
    facts = SAME | {"list_masked": masks}
    async with opened(row, facts=facts, engine="same", masks=masks) as (box, replay):
        proposals = await held(box, CHOICE)
    assert (text_of(proposals), sent(replay, box)) == (TEXT, [True])
    prefix = list(PROMPT)
    for proposal in proposals[:-1]:
        assert (proposal.held, proposal.masked) == (True, masks)
        known = logprobs(prefix)
        if masks:
            inside = allowed(TEXT[len(text_of_ids(prefix)) - len(text_of_ids(list(PROMPT))) :].encode())
            assert proposal.whole and set(proposal.top_ids.tolist()) == {*np.flatnonzero(inside).tolist()}
            known = known - np.log(np.exp(known[inside]).sum())
        else:
            assert not proposal.whole
        np.testing.assert_allclose(proposal.top_logprobs, known[proposal.top_ids], atol=1e-6)
        assert proposal.token_id is not None
        prefix.append(proposal.token_id)


def text_of_ids(ids: list[int]) -> bytes:
    return b"".join(map(TOKENIZER.token_bytes, ids))


@each_holding
async def test_another_engine_is_sent_schemas_alone_and_what_it_draws_is_a_guess(row: Row) -> None:
    async with opened(row, facts=OTHER, engine="other", masks=False) as (box, replay):
        proposals = await held(box, SCHEMA)
        async with box.draft(PROMPT, DraftParams(0.7, 2, grammar=SCHEMA)) as draft:
            assert draft.temperature is None
        await held(box, CHOICE)
    assert text_of(proposals) == '{"b":"the"}'
    assert all(proposal.held and not proposal.masked for proposal in proposals[:-1])
    assert sent(replay, box) == [True, True, False]


@each_holding
@pytest.mark.parametrize(
    ("facts", "more"),
    [
        ({}, {}),
        (SAME, {"whole_lists": True}),
        (SAME | {"same_forms": False}, {}),
    ],
    ids=["it was not found to hold", "lists of all are wanted", "masked by another engine"],
)
async def test_where_it_would_not_be_exact_nothing_is_sent(row: Row, facts: dict[str, Any], more: Any) -> None:
    async with opened(row, facts=facts, engine="same") as (box, replay):
        for grammar in (CHOICE, SCHEMA):
            await held(box, grammar, **more)
    assert sent(replay, box) == [False, False]


@each_holding
async def test_a_grammar_that_is_refused_is_not_sent_again_and_another_one_is(row: Row) -> None:
    async with opened(row, facts=SAME, engine="same") as (box, replay):
        several = choice_grammar(["a", "b"])  # more than this stand-in knows
        with pytest.raises(UpstreamRefused):
            await held(box, several)
        assert len(await held(box, several)) == 30
        assert text_of(await held(box, CHOICE)) == TEXT
    assert sent(replay, box) == [True, False, True]


@each_holding
@pytest.mark.parametrize(
    ("how", "found"),
    [
        ({"engine": ""}, (False, False, False)),
        ({"engine": "ignores"}, (False, False, False)),
        ({"engine": "same"}, (True, True, True)),
        ({"engine": "same", "masks": False}, (True, True, False)),
        ({"engine": "other", "masks": False}, (True, False, False)),
        ({"engine": "other"}, (True, False, True)),
    ],
    ids=str,
)
async def test_the_probe_finds_what_it_keeps_to_and_what_it_lists_then(
    row: Row, how: dict[str, Any], found: tuple[bool, bool, bool]
) -> None:
    async with replaying(row.stand_in(**how)) as replay:
        box = await connect(replay.url, tokenizer=TOKENIZER, k=K, **row.how)
        facts = sole(box).capabilities
        await box.aclose()
    assert (facts.holds_forms, facts.same_forms, facts.list_masked) == found
    assert any("another engine" in note for note in facts.notes) is (found == (True, False, True))


@each_other
async def test_who_has_no_field_for_it_is_sent_none(row: Row) -> None:
    async with opened(row, facts=SAME) as (box, replay):
        async with box.draft(PROMPT, DraftParams(0.0, 2, grammar=CHOICE)) as draft:
            shown = [proposal async for proposal in draft]
        assert not any(proposal.held for proposal in shown)
    assert sent(replay, box) == [False] * len(replay.bodies(box.path))


@pytest.mark.parametrize("spoilt", [Reply([], cut=True), Reply([b"data: [DONE]\n\n"])], ids=["cut", "without a token"])
async def test_a_look_whose_call_with_a_form_is_hit_by_a_fault_finds_the_same_black_box(spoilt: Reply) -> None:
    (row,) = (row for row in HOLDING if row.name == "vllm")
    stand_in, faults = row.stand_in(engine="same"), list[Reply]()

    def answer(request: Request) -> Reply:
        formed = any(name in str(request.body) for name in FIELDS)
        return faults.pop() if formed and faults else stand_in(request)

    async with replaying(answer) as replay:
        box = await connect(replay.url, tokenizer=TOKENIZER, k=K, **row.how)
        faults.append(spoilt)
        replay.drop_connections()
        async with box.draft(PROMPT, DraftParams(0.0, 2)) as draft:
            assert len([proposal async for proposal in draft]) == 2
        assert not faults and box.problem() is None
        await box.aclose()
