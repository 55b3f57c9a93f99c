"""Connecting: good upstreams are measured, bad ones are refused with a sentence that names the setting."""

from typing import Any

import pytest
import structlog

from deltaserve.errors import UncorrectableUpstream, UpstreamUnreachable
from deltaserve.server.decoding.protocols import DraftParams
from deltaserve.server.upstream.base import BlackBox, TokenizerView
from deltaserve.server.upstream.dialects.llamacpp import LlamaCpp
from deltaserve.server.upstream.dialects.openai import OpenAI
from deltaserve.server.upstream.dialects.vllm import Vllm
from deltaserve.server.upstream.http.transport import Limits, Timeouts
from deltaserve.server.upstream.listing.block_scorer import block_scorer
from deltaserve.server.upstream.probing.connect import connect
from tests.support.fake_upstream import FakeUpstream
from tests.support.replay import Reply, json_reply, replaying
from tests.support.table_tokenizer import byte_tokenizer

pytestmark = pytest.mark.anyio

TOKENIZER = byte_tokenizer()
QUICK: dict[str, Any] = {"timeouts": Timeouts(first_token_s=2.0), "limits": Limits(attempts=1)}


async def probed(upstream: FakeUpstream, tokenizer: TokenizerView = TOKENIZER, **options: Any) -> BlackBox:
    async with replaying(upstream) as replay:
        box = await connect(replay.url, tokenizer=tokenizer, **(QUICK | options))
        await box.ping() if upstream.dialect != "llamacpp" else None
        await box.aclose()
    return box


async def refusal(upstream: FakeUpstream, tokenizer: TokenizerView = TOKENIZER, **options: Any) -> str:
    with pytest.raises(UncorrectableUpstream) as caught:
        await probed(upstream, tokenizer, **options)
    return caught.value.message


async def test_vllm_is_detected_and_measured() -> None:
    box = await probed(FakeUpstream("vllm", cached=16), k=8)
    assert isinstance(box, Vllm)
    facts = box.capabilities
    assert (facts.dialect, facts.server, facts.model, facts.max_context) == ("vllm", "vLLM 0.0", "tiny", 512)
    assert (facts.k, facts.max_k, facts.vocab_size) == (8, 20, 256)
    assert facts.raw_logprobs and facts.prompt_list and facts.prompt_logprobs and facts.prefix_cache
    assert facts.notes == ()


async def test_llamacpp_is_detected_and_measured() -> None:
    box = await probed(FakeUpstream("llamacpp", vocab_size=260, max_k=260))
    assert isinstance(box, LlamaCpp)
    facts = box.capabilities
    assert (facts.server, facts.k, facts.max_k, facts.vocab_size) == ("llama.cpp b1", 20, 260, 260)
    assert facts.raw_logprobs and facts.ids_in and facts.ids_out
    assert not facts.prompt_logprobs and facts.prefix_cache is None


async def test_a_hosted_api_with_text_tokens_is_measured_and_remarked_upon() -> None:
    box = await probed(FakeUpstream("openai", max_k=5))
    assert isinstance(box, OpenAI)
    facts = box.capabilities
    assert (facts.k, facts.max_k, facts.ids_in, facts.ids_out) == (5, 5, True, False)
    assert any("at most 5" in note for note in facts.notes)
    assert any("token counts only" in note for note in facts.notes)


async def test_an_api_that_takes_text_only_is_detected() -> None:
    box = await probed(FakeUpstream("openai", max_k=5, takes_ids=False))
    assert not box.capabilities.ids_in
    assert any("as text only" in note for note in box.capabilities.notes)


async def test_processed_logprobs_are_found_by_their_slope() -> None:
    facts = (await probed(FakeUpstream("vllm", processed=True))).capabilities
    assert not facts.raw_logprobs
    assert any("--logprobs-mode raw_logprobs" in note for note in facts.notes)


async def test_llamacpp_may_be_told_to_leave_its_prefix_cache_alone() -> None:
    fake = FakeUpstream("llamacpp", vocab_size=260, max_k=260)
    box = await probed(fake, prefix_cache=False)
    assert isinstance(box, LlamaCpp)
    assert box.capabilities.prefix_cache is False
    assert box.request([1], 0.0, DraftParams(0.0, 1))["cache_prompt"] is False
    assert block_scorer(box, 256) is None
    assert "upstream_prefix_cache" in await refusal(FakeUpstream("vllm"), prefix_cache=False)


@pytest.mark.parametrize(
    ("upstream", "options", "trusted"),
    [
        (FakeUpstream("vllm"), {}, True),
        (FakeUpstream("vllm"), {"trust_draws": False}, False),
        (FakeUpstream("vllm", owner="vllm-like"), {}, False),
        (FakeUpstream("llamacpp", vocab_size=260, max_k=260), {}, False),
        (FakeUpstream("openai", max_k=5), {}, False),
    ],
    ids=["vllm", "an operator who trusts none", "another server with vllm's routes", "llama.cpp", "hosted"],
)
async def test_draws_are_trusted_only_where_all_of_them_are_shown(
    upstream: FakeUpstream, options: dict[str, Any], trusted: bool
) -> None:
    async with replaying(upstream) as replay:
        box = await connect(replay.url, tokenizer=TOKENIZER, **(QUICK | options))
        async with box.draft([1, 2], DraftParams(0.7, 1)) as draft:
            assert draft.temperature == (0.7 if trusted else None)
        await box.aclose()
    assert any("only guesses" in note for note in box.capabilities.notes) is not trusted


async def test_the_dialect_may_be_given() -> None:
    assert isinstance(await probed(FakeUpstream("vllm"), dialect="vllm"), Vllm)
    assert "return_tokens_as_token_ids" in await refusal(FakeUpstream("openai"), dialect="vllm")


async def test_without_tokenize_token_counts_are_compared() -> None:
    box = await probed(FakeUpstream("vllm", tokenize=False))
    assert any("token counts only" in note for note in box.capabilities.notes)


async def test_another_tokenizer_is_refused() -> None:
    other = byte_tokenizer([b"apit", b"12", b"  "])
    assert "tokenizer is not the pair's" in await refusal(FakeUpstream("vllm", tokenizer=other, vocab_size=259))
    assert "tokenizer is not the pair's" in await refusal(
        FakeUpstream("vllm", tokenizer=other, vocab_size=259, tokenize=False)
    )


async def test_another_special_token_is_refused() -> None:
    ours, theirs = byte_tokenizer([b"<|end|>"]), byte_tokenizer([b"<|fin|>"])
    said = await refusal(FakeUpstream("llamacpp", tokenizer=theirs, vocab_size=257, max_k=257), ours)
    assert "<|end|>" in said


async def test_a_smaller_vocabulary_is_refused() -> None:
    said = await refusal(FakeUpstream("vllm"), byte_tokenizer([b"zz"]))
    assert "256 token ids and the pair's tokenizer 257" in said


async def test_a_prompt_that_the_server_changes_is_refused() -> None:
    class Templated(FakeUpstream):
        def _streamed(self, ids: list[int], body: dict[str, Any], k: int) -> Reply:
            self.template = (len(ids),)  # what a template puts around the prompt depends on where it ends
            return super()._streamed(ids, body, k)

    assert "does not continue from its own tokens" in await refusal(Templated("vllm"))


async def test_no_logprobs_are_refused() -> None:
    assert "gives no log-probabilities" in await refusal(FakeUpstream("vllm", lists=False))
    assert "--max-logprobs" in await refusal(FakeUpstream("vllm", max_k=0))


@pytest.mark.parametrize("shift", [9.0, 3.0])
async def test_logits_in_place_of_logprobs_are_refused(shift: float) -> None:
    assert "--logprobs-mode" in await refusal(FakeUpstream("vllm", shift=shift))


async def test_speculative_decoding_that_leaves_positions_without_a_list_is_refused() -> None:
    assert "draft model" in await refusal(FakeUpstream("llamacpp", hole=True, max_k=256))


async def test_a_missing_model_is_refused_with_the_names_there_are() -> None:
    assert "no model named big; it has tiny" in await refusal(FakeUpstream("vllm"), model="big")


async def test_a_wrong_key_is_refused() -> None:
    async with replaying(json_reply({"error": "Unauthorized"}, 401)) as replay:
        with pytest.raises(UncorrectableUpstream, match="key"):
            await connect(replay.url, tokenizer=TOKENIZER, **QUICK)


async def test_a_server_that_is_away_is_unreachable_not_uncorrectable() -> None:
    async with replaying(Reply([])) as replay:
        pass
    with pytest.raises(UpstreamUnreachable):
        await connect(replay.url, tokenizer=TOKENIZER, **QUICK)


async def test_what_was_probed_is_logged_without_prompt_or_key() -> None:
    with structlog.testing.capture_logs() as logs:
        await probed(FakeUpstream("vllm"), key="k-123")
    (line,) = [log for log in logs if log["event"] == "upstream_probed"]
    assert line["dialect"] == "vllm" and line["k"] == 20
    assert "k-123" not in str(logs) and "capital" not in str(logs)
