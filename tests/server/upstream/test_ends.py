"""What the black box ends its answers with is learned from its answers, its pages, and by making it draw it."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.upstream.base import Capabilities
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.dialects.llamacpp import LlamaCpp
from deltaserve.server.upstream.dialects.openai import OpenAI
from deltaserve.server.upstream.dialects.vllm import Vllm
from deltaserve.server.upstream.http.transport import Transport
from deltaserve.server.upstream.listing.greedy import greedy_answer
from deltaserve.server.upstream.listing.prompt_list import PromptList
from deltaserve.server.upstream.probing.connect import connect
from tests.support.fake_upstream import FakeUpstream
from tests.support.replay import DONE, Replay, Reply, Request, event, events_of, json_reply, recorded, replaying
from tests.support.table_tokenizer import TableTokenizer

pytestmark = pytest.mark.anyio


class Named(TableTokenizer):
    """Single bytes, then special tokens that look like ends or not; only the first is named as one."""

    special_ids = frozenset({256, 257, 258, 259})
    eos_ids = (256,)


SPECIALS = {256: b"<|endoftext|>", 257: b"<|im_start|>", 258: b"<|im_end|>", 259: b"<|eot_id|>"}
TOKENIZER = Named(260, {value: bytes([value]) for value in range(256)} | SPECIALS)
END, EOT = 258, 259


def box(replay: Replay, dialect: str, kind: type[CompletionsBox]) -> CompletionsBox:
    capabilities = Capabilities(
        dialect=dialect, server="x", model="tiny", k=2, max_k=20, vocab_size=260, max_context=99, ids_in=True,
        ids_out=True, raw_logprobs=True, prompt_list=True, prompt_logprobs=True, prefix_cache=None,
    )  # type: ignore[arg-type]  # fmt: skip
    return kind(Transport(replay.url), TOKENIZER, capabilities)


async def drafted(black_box: CompletionsBox, max_tokens: int = 8, temperature: float = 0.0) -> list[Proposal]:
    try:
        async with black_box.draft([1], DraftParams(temperature, max_tokens)) as draft:
            return [proposal async for proposal in draft]
    finally:
        await black_box.aclose()


def vllm_chunk(*tokens: int, text: str = "", finish: str | None = None) -> bytes:
    tops = [{f"token_id:{i}": -0.1, "token_id:9": -3.0} for i in tokens]
    logprobs = {"tokens": [f"token_id:{i}" for i in tokens], "top_logprobs": tops}
    return event({"choices": [{"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish}]})


def llama_chunk(*tokens: int, text: str = "", finish: str | None = None, drawn: int | None = None) -> bytes:
    def listed(token_id: int) -> dict[str, Any]:
        raw = [] if token_id > 255 else [token_id]
        return {"id": token_id, "token": "", "bytes": raw, "logprob": -0.1 if token_id != 9 else -3.0}

    entries = [listed(i) | {"top_logprobs": [listed(i), listed(9)]} for i in tokens]
    choice = {"index": 0, "text": text, "finish_reason": finish, "logprobs": {"content": entries} if entries else None}
    return event({"choices": [choice]} | ({"usage": {"completion_tokens": drawn}} if drawn else {}))


async def test_vllms_last_token_is_its_end_where_it_stopped_and_shows_no_text_of_it() -> None:
    pieces = [vllm_chunk(97, text="a"), vllm_chunk(98, END, text="b", finish="stop"), DONE]
    async with replaying(Reply(pieces)) as replay:
        black_box = box(replay, "vllm", Vllm)
        proposals = await drafted(black_box)
    assert [(p.token_id, p.end_id) for p in proposals] == [(97, None), (98, None), (END, END)]
    assert black_box.capabilities.end_ids == (END,)


@pytest.mark.parametrize(
    "last",
    [
        pytest.param(vllm_chunk(98, text="b", finish="stop"), id="its text is shown"),
        pytest.param(vllm_chunk(END, finish="length"), id="the limit"),
        pytest.param(vllm_chunk(0xE2, finish="stop"), id="half a character, whose text is held back"),
    ],
)
async def test_a_token_that_was_said_is_no_end(last: bytes) -> None:
    async with replaying(Reply([vllm_chunk(97, text="a"), last, DONE])) as replay:
        black_box = box(replay, "vllm", Vllm)
        proposals = await drafted(black_box, 2)
    assert [p.end_id for p in proposals] == [None, None]
    assert black_box.capabilities.end_ids == ()


async def test_llamacpp_tells_the_end_after_the_token_and_the_token_waits_for_it() -> None:
    pieces = [llama_chunk(97, text="a"), llama_chunk(END), llama_chunk(finish="stop", drawn=2), DONE]
    async with replaying(Reply(pieces)) as replay:
        black_box = box(replay, "llamacpp", LlamaCpp)
        proposals = await drafted(black_box)
    assert [(p.token_id, p.end_id) for p in proposals] == [(97, None), (END, END)]
    assert black_box.capabilities.end_ids == (END,)


async def test_a_special_token_that_more_follows_is_no_end() -> None:
    pieces = [llama_chunk(END), llama_chunk(97, text="a"), llama_chunk(finish="stop", drawn=2), DONE]
    async with replaying(Reply(pieces)) as replay:
        black_box = box(replay, "llamacpp", LlamaCpp)
        assert [p.end_id for p in await drafted(black_box)] == [None, None]


async def test_the_recorded_end_of_llamacpp_is_learned() -> None:
    async with replaying(Reply(events_of(recorded("llamacpp/eos_v1c_stream.resp.sse")))) as replay:
        black_box = box(replay, "llamacpp", LlamaCpp)
        black_box._tokenizer = TableTokenizer(151665, {0: b"!", 151645: b"<|im_end|>"})
        black_box.adopt(replace(black_box.capabilities, vocab_size=151936, k=3))
        (proposal,) = await drafted(black_box)
    assert proposal.end_id == 151645 == black_box.capabilities.end_ids[0]


async def test_a_text_that_a_hosted_api_ends_behind_is_no_end() -> None:
    logprobs = {"tokens": ["b"], "top_logprobs": [{"b": -0.1, "c": -3.0}]}
    pieces = [event({"choices": [{"index": 0, "text": "b", "logprobs": logprobs, "finish_reason": None}]})]
    pieces += [event({"choices": [{"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}]}), DONE]
    async with replaying(Reply(pieces)) as replay:
        black_box = box(replay, "openai", OpenAI)
        assert [p.end_id for p in await drafted(black_box)] == [None]


HIDDEN = [
    vllm_chunk(97, text="a"),
    event({"choices": [{"index": 0, "logprobs": None, "finish_reason": "stop"}]}),
    event({"choices": [], "usage": {"completion_tokens": 2}}),
    DONE,
]


@pytest.mark.parametrize(("temperature", "best", "learned"), [(0.0, END, END), (1.0, END, None), (0.0, 98, None)])
async def test_an_end_that_is_not_shown_is_the_best_special_token_of_a_greedy_answer(
    temperature: float, best: int, learned: int | None
) -> None:
    forced = [vllm_chunk(best, finish="length"), DONE]
    async with replaying(Reply(HIDDEN), Reply(forced)) as replay:
        black_box = box(replay, "vllm", Vllm)
        _, unseen = await drafted(black_box, temperature=temperature)
    assert (unseen.token_id, unseen.end_id) == (None, learned)


async def test_a_block_tells_the_end_that_the_black_box_drew_behind_it() -> None:
    async with replaying(Reply([vllm_chunk(END, finish="stop"), DONE])) as replay:
        black_box = box(replay, "vllm", Vllm)
        block = await PromptList(black_box).block([1], [], DraftParams(0.0, 1))
        await black_box.aclose()
    assert block.proposals[-1].end_id == END


async def test_a_greedy_answer_ends_with_an_end_that_only_the_black_box_knows() -> None:
    pieces = [vllm_chunk(97, text="a"), vllm_chunk(END, finish="stop"), DONE]
    async with replaying(Reply(pieces)) as replay:
        black_box = box(replay, "vllm", Vllm)
        ids, _ = await greedy_answer(black_box, [1], 9, (256,))
        assert ids == [97, END] and len(replay.requests) == 1
        again, _ = await greedy_answer(black_box, [1], 9, ())
        await black_box.aclose()
    assert again == [97, END]


@dataclass
class Ending(FakeUpstream):
    """A black box that draws what a bias makes it draw, and ends with some tokens."""

    ends: tuple[int, ...] = ()
    names: str | None = None  # in /props

    def __call__(self, request: Request) -> Reply:
        bias = request.body and request.body.get("logit_bias")
        if request.path != "/v1/completions" or not bias:
            return super().__call__(request)
        token_id = int(bias[0][0] if isinstance(bias, list) else next(iter(bias)))
        count = 1 if token_id in self.ends else request.body["max_tokens"]
        finish = "stop" if token_id in self.ends else "length"
        piece = (llama_chunk if self.dialect == "llamacpp" else vllm_chunk)(*[token_id] * count, finish=finish)
        return json_reply(piece.removeprefix(b"data: ").strip())

    def _props(self) -> Reply:
        return json_reply({"build_info": "b1", "eos_token": self.names}) if self.names else super()._props()


async def learned(upstream: Ending) -> Capabilities:
    async with replaying(upstream) as replay:
        black_box = await connect(replay.url, tokenizer=TOKENIZER, k=2)
        await black_box.aclose()
    return black_box.capabilities


@pytest.mark.parametrize("dialect", ["vllm", "llamacpp"])
async def test_the_probe_finds_ends_that_the_pair_does_not_name_and_remarks_upon_them(dialect: str) -> None:
    facts = await learned(Ending(dialect, TOKENIZER, vocab_size=260, max_k=300, ends=(256, EOT, 257)))
    assert facts.end_ids == (EOT,)
    assert any("<|eot_id|> (259)" in note and "<|endoftext|> (256)" in note for note in facts.notes)


async def test_there_is_no_remark_where_both_sides_end_answers_with_the_same_token() -> None:
    facts = await learned(Ending("vllm", TOKENIZER, vocab_size=260, ends=(256,)))
    assert facts.end_ids == () and facts.notes == ()


async def test_the_end_token_that_llamacpp_names_is_used() -> None:
    facts = await learned(Ending("llamacpp", TOKENIZER, vocab_size=260, max_k=300, names="<|im_start|>"))
    assert facts.end_ids == (257,)
