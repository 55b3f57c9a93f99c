"""Connect to a black box: detect its dialect, then measure with tiny requests what it really does.

What cannot be corrected exactly is refused here, with a sentence that names the setting to change.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import structlog

from deltaserve.errors import MalformedTopK, UncorrectableUpstream, UpstreamRefused
from deltaserve.server.upstream.base import Capabilities, Dialect, TokenizerView
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.dialects.llamacpp import LlamaCpp
from deltaserve.server.upstream.dialects.openai import OpenAI
from deltaserve.server.upstream.dialects.vllm import Vllm
from deltaserve.server.upstream.http.continuity import Difference
from deltaserve.server.upstream.http.refusals import Refusal
from deltaserve.server.upstream.http.transport import Limits, Timeouts, Transport
from deltaserve.server.upstream.listing.choosing import proven_methods
from deltaserve.server.upstream.probing.detect import Detected, detect
from deltaserve.server.upstream.probing.identity import Identity, compare, identify, without_pretence
from deltaserve.server.upstream.probing.measure import Probe
from deltaserve.server.upstream.probing.tokenizer_check import (
    check_tokenizer,
    ends_beside,
    named_end,
    probe_prompt,
    unnamed_ends,
)
from deltaserve.server.upstream.probing.vouching import vouching

_HOSTED_K = 5  # OpenAI's limit, tried when a refusal does not name the server's


async def connect(
    url: str,
    *,
    tokenizer: TokenizerView,
    model: str | None = None,
    key: str | None = None,
    dialect: Dialect | Literal["auto"] = "auto",
    k: int = 20,
    timeouts: Timeouts | None = None,
    limits: Limits | None = None,
    cache_salt: str | None = None,
    prefix_cache: bool = True,
    trust_draws: bool = True,
) -> CompletionsBox:
    """A probed black box; without `prefix_cache` (llama.cpp only) it computes every prompt whole.

    Without `trust_draws` what it draws is only a guess; nor is it trusted where it may hide what it drew.
    Raises UncorrectableUpstream when it cannot be corrected, UpstreamError when it is away.
    """
    prober = Prober(url, tokenizer, key, dialect, k, timeouts, limits, cache_salt, prefix_cache, trust_draws)
    box, identity = await prober.probed(model)
    structlog.get_logger(__name__).info("upstream_probed", **box.capabilities.describe())
    box.vouched_for_by(await vouching(prober, box, identity))
    return box


@dataclass(frozen=True, slots=True)
class Prober:
    """One address, and how it is asked."""

    url: str
    tokenizer: TokenizerView
    key: str | None
    dialect: Dialect | Literal["auto"]
    k: int
    timeouts: Timeouts | None
    limits: Limits | None
    cache_salt: str | None
    prefix_cache: bool
    trust_draws: bool

    async def probed(self, model: str | None) -> tuple[CompletionsBox, Identity]:
        """All of it, with some dozen calls. Raises UncorrectableUpstream, UpstreamError."""
        transport = Transport(self.url, key=self.key, timeouts=self.timeouts, limits=self.limits)
        try:
            pages = await detect(transport, model, None if self.dialect == "auto" else self.dialect)
            assumed = replace(_assumed(pages, self.k), end_ids=named_end(pages.end, self.tokenizer))
            assumed = assumed if self.prefix_cache else _without_cache(assumed)
            box = _box(transport, self.tokenizer, assumed, self.cache_salt)
            box.trusts_draws = box.trusts_draws and self.trust_draws and pages.is_known
            await _measure(Probe(transport, box, probe_prompt(self.tokenizer)), self.tokenizer)
            plain = _box(transport, self.tokenizer, box.capabilities, self.cache_salt)
            identity = await identify(partial(Probe, transport, plain), self.tokenizer, pages)
        except (MalformedTopK, UpstreamRefused) as error:
            await transport.aclose()
            raise UncorrectableUpstream(error.message) from error
        except BaseException:
            await transport.aclose()
            raise
        return box, identity

    async def compared(self, facts: Capabilities, identity: Identity) -> Difference | None:
        """A look at little cost. Raises UpstreamError where the server does not answer."""
        limits = replace(self.limits or Limits(), attempts=1)  # whoever waits for the look tries again
        transport = Transport(self.url, key=self.key, timeouts=self.timeouts, limits=limits)
        try:
            pages = await detect(transport, facts.model, identity.pages.dialect)
            box = _box(transport, self.tokenizer, facts, self.cache_salt)
            without_pretence(box)
            return await compare(identity, partial(Probe, transport, box), self.tokenizer, pages)
        except (MalformedTopK, UpstreamRefused, UncorrectableUpstream) as error:
            return Difference(error.message.rstrip("."))
        finally:
            await transport.aclose()


async def _measure(probe: Probe, tokenizer: TokenizerView) -> None:
    box, asked = probe.box, probe.box.capabilities.k
    await _settle_on_k(probe)
    _learn(box, raw_logprobs=await probe.is_raw())
    await probe.check_continuation()
    _learn(box, **await _vocabulary(probe, tokenizer))
    notes = await check_tokenizer(probe, tokenizer)
    for token_id in await ends_beside(probe, tokenizer):
        box.learn_end(token_id)
    notes += unnamed_ends(box.capabilities.end_ids, tokenizer)
    _learn(
        box,
        **await proven_methods(box, tokenizer),
        prefix_cache=await probe.reads_its_cache() if box.capabilities.prefix_cache is None else False,
    )
    _learn(box, notes=(*box.capabilities.notes, *notes, *_remarks(box, asked)))


def _learn(box: CompletionsBox, **facts: Any) -> None:
    box.adopt(replace(box.capabilities, **facts))


def _assumed(found: Detected, k: int) -> Capabilities:
    """What the probe starts from and then corrects."""
    return Capabilities(
        dialect=found.dialect,
        server=found.server,
        model=found.model,
        k=k,
        max_k=k,
        vocab_size=found.vocab_size,
        max_context=found.max_context,
        ids_in=True,
        ids_out=found.dialect != "openai",
        raw_logprobs=True,
        prompt_list=False,
        prompt_logprobs=False,
        prefix_cache=None,
        slots=found.slots,
        notes=found.notes,
    )


def _without_cache(facts: Capabilities) -> Capabilities:
    if facts.dialect != "llamacpp":
        raise UncorrectableUpstream(
            "Only llama.cpp can be told by a request to leave its prefix cache alone. Keep upstream_prefix_cache on; "
            "other servers turn their cache off when they are started (vLLM: --no-enable-prefix-caching)."
        )
    return replace(facts, prefix_cache=False)


def _box(
    transport: Transport, tokenizer: TokenizerView, capabilities: Capabilities, cache_salt: str | None
) -> CompletionsBox:
    if capabilities.dialect == "vllm":
        return Vllm(transport, tokenizer, capabilities, cache_salt=cache_salt)
    return (LlamaCpp if capabilities.dialect == "llamacpp" else OpenAI)(transport, tokenizer, capabilities)


async def _settle_on_k(probe: Probe) -> None:
    """The largest k up to the asked one, and for text dialects whether ids are taken as the prompt."""
    facts = probe.box.capabilities
    while True:
        try:
            await probe.listed(1.0)
            return
        except Refusal as refusal:
            facts = _after_refusal(facts, refusal)
        except MalformedTopK as error:
            facts = _after_short_list(facts, error)
        probe.box.adopt(facts)


def _after_refusal(facts: Capabilities, refusal: Refusal) -> Capabilities:
    if refusal.http_status not in (400, 422):
        raise refusal
    limit = refusal.largest_k
    if limit is not None and limit < 1:
        raise UncorrectableUpstream("The upstream gives no log-probabilities: allow them (vLLM: --max-logprobs 20).")
    if limit is None and facts.dialect == "openai":
        limit = _HOSTED_K
    if limit is not None and limit < facts.k:
        return replace(facts, k=limit, max_k=limit)
    if facts.dialect == "openai" and facts.ids_in:
        return replace(facts, ids_in=False)
    raise refusal


def _after_short_list(facts: Capabilities, error: MalformedTopK) -> Capabilities:
    if facts.dialect == "openai" and facts.k > _HOSTED_K:
        return replace(facts, k=_HOSTED_K, max_k=_HOSTED_K)  # some servers cut the list without a word
    hint = " Start vLLM with --logprobs-mode raw_logprobs." if "not normalised" in error.message else ""
    raise UncorrectableUpstream(error.message + hint) from error


async def _vocabulary(probe: Probe, tokenizer: TokenizerView) -> dict[str, int]:
    """The upstream's number of ids and largest k, where it tells; refuses fewer ids than ours."""
    facts = probe.box.capabilities
    told = await probe.asked_for_everything() if facts.dialect == "vllm" else {}
    size = told.get("vocab_size") or facts.vocab_size
    if facts.dialect == "llamacpp" and size:
        told = {"max_k": size}
    if size is not None and size < tokenizer.vocab_size:
        raise UncorrectableUpstream(
            f"The upstream's model has {size} token ids and the pair's tokenizer {tokenizer.vocab_size}: "
            "they are different tokenizers."
        )
    return told


def _remarks(box: CompletionsBox, asked: int) -> list[str]:
    facts, remarks = box.capabilities, []
    if facts.k < asked:
        remarks.append(f"It lists at most {facts.k} tokens a position; {asked} were wanted.")
    if not facts.raw_logprobs:
        remarks.append(
            "Its log-probabilities change with the temperature, so drafts are drawn at temperature 1 and more of them "
            "are replaced (vLLM: --logprobs-mode raw_logprobs)."
        )
    if not box.trusts_draws:
        remarks.append(
            "Tokens of sampled answers are drawn here and its own are only guesses: it may hide some of them, is not "
            "known to show all, or trust_draws is off."
        )
    if facts.dialect == "openai":
        remarks.append(
            "Its own top_k, min_p and repetition penalty cannot be switched off here: they must be off there."
        )
    if not facts.ids_in:
        remarks.append("It takes prompts as text only: prefixes that do not survive re-tokenising are refused.")
    return remarks
