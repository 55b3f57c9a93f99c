"""A text forced by a grammar, on what llama.cpp answered and on answers that are not the forced ones."""

from dataclasses import replace

import pytest

from deltaserve.errors import MalformedTopK, UpstreamError
from deltaserve.server.decoding.protocols import Proposal
from deltaserve.server.upstream.base import Capabilities
from deltaserve.server.upstream.dialects.llamacpp import LlamaCpp
from deltaserve.server.upstream.http.transport import Transport
from deltaserve.server.upstream.listing.choosing import method_for_texts, proven_methods
from deltaserve.server.upstream.listing.grammar import Grammar
from deltaserve.server.upstream.listing.methods import Cost
from deltaserve.server.upstream.listing.steps import Steps
from tests.support.fake_upstream import FakeUpstream
from tests.support.replay import Replay, Reply, events_of, json_reply, recorded, replaying
from tests.support.table_tokenizer import TableTokenizer, byte_tokenizer

pytestmark = pytest.mark.anyio

PREFIX = [785, 6722, 315, 9625, 374]
THE_CITY_OF = [279, 3283, 315]
END = 151645  # <|im_end|>; the recorded free draw is <|endoftext|>
QWEN = TableTokenizer(151665, {279: b" the", 3283: b" city", 315: b" of", 0: b"!"})
FACTS = Capabilities(
    dialect="llamacpp", server="llama.cpp", model="qwen", k=3, max_k=151936, vocab_size=151936, max_context=2048,
    ids_in=True, ids_out=True, raw_logprobs=True, prompt_list=True, prompt_logprobs=False, prefix_cache=True, slots=4,
)  # fmt: skip


def recorded_answer() -> Reply:
    return Reply(events_of(recorded("llamacpp/grammar_stream.resp.sse")))


async def listed(replay: Replay, text: list[int]) -> list[Proposal]:
    box = LlamaCpp(Transport(replay.url), QWEN, FACTS)
    try:
        return await Grammar(box).lists(PREFIX, text)
    finally:
        await box.aclose()


async def test_one_call_tells_the_lists_of_a_text_and_of_the_end_behind_it() -> None:
    async with replaying(recorded_answer()) as replay:
        lists = await listed(replay, [*THE_CITY_OF, END])
    (body,) = replay.bodies()
    assert body["grammar"] == "root ::= <[279]> <[3283]> <[315]>"
    assert (body["prompt"], body["max_tokens"], body["stream"]) == (PREFIX, 4, True)
    assert [one.top_ids[0] for one in lists] == [12095, 3283, 315, 12095], "the lists are not those of the grammar"
    assert Grammar(None).cost(5, 4) == Cost(1, 5, 4)  # type: ignore[arg-type]


async def test_a_token_that_cuts_a_character_is_asked_for_by_a_step() -> None:
    tokenizer, fake = byte_tokenizer(), FakeUpstream("llamacpp", obeys_grammars=True)
    text = tokenizer.encode("ab\N{EM DASH}c")  # three bytes, a token each
    async with replaying(fake) as replay:
        box = LlamaCpp(Transport(replay.url), tokenizer, replace(FACTS, vocab_size=256))
        lists = await Grammar(box).lists([7], text)
        asked = [(len(body["prompt"]), body.get("grammar"), body["max_tokens"]) for body in replay.bodies()]
        alone = await Steps(box).lists([7], text)
        await box.aclose()
    assert asked == [(1, "root ::= <[97]> <[98]>", 3), (4, None, 1), (5, None, 1), (6, "root ::= <[99]>", 1)]
    assert [one.top_logprobs.tolist() for one in lists] == [one.top_logprobs.tolist() for one in alone]


async def test_other_tokens_than_those_of_the_grammar_are_refused() -> None:
    async with replaying(recorded_answer()) as replay:
        with pytest.raises(MalformedTopK, match="tokens that its grammar allows"):
            await listed(replay, [279, 315, 3283])


async def test_an_answer_that_ends_before_the_text_does_is_refused() -> None:
    async with replaying(recorded_answer()) as replay:
        with pytest.raises(MalformedTopK, match="tokens that its grammar allows"):
            await listed(replay, [*THE_CITY_OF, 0, 0])


async def test_a_grammar_that_the_server_fails_over_is_an_error() -> None:
    told = {"error": {"code": 500, "message": "got exception: Unexpected empty grammar stack", "type": "server_error"}}
    async with replaying(json_reply(told, 500)) as replay:
        with pytest.raises(UpstreamError):
            await listed(replay, THE_CITY_OF)


@pytest.mark.parametrize(("obeys", "name"), [(True, "grammar"), (False, "steps")])
async def test_only_a_server_that_obeys_grammars_and_lists_the_same_is_asked_so(obeys: bool, name: str) -> None:
    fake = FakeUpstream("llamacpp", obeys_grammars=obeys)
    async with replaying(fake) as replay:
        box = LlamaCpp(Transport(replay.url), byte_tokenizer(), replace(FACTS, vocab_size=256, prefix_cache=None))
        box.adopt(replace(box.capabilities, **await proven_methods(box, byte_tokenizer())))
        assert method_for_texts(box).name == name
        assert method_for_texts(box, "steps").name == "steps"
        await box.aclose()
