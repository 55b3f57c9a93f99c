"""All measurements of the probe in their order. Each is made with a box that knows what the ones before have shown."""

from typing import Any, Final

from deltaserve.errors import MalformedTopK, UncorrectableUpstream
from deltaserve.server.upstream.base import Capabilities, TokenizerView
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.dialects.text_box import TextBox
from deltaserve.server.upstream.http.refusals import Refusal
from deltaserve.server.upstream.listing.choosing import proven_methods
from deltaserve.server.upstream.listing.named import disturbs_others, most_named
from deltaserve.server.upstream.probing.forms import forms
from deltaserve.server.upstream.probing.probe import Probe
from deltaserve.server.upstream.probing.prompts import probe_prompts
from deltaserve.server.upstream.probing.texts import reading
from deltaserve.server.upstream.probing.tokenizer_check import (
    check_tokenizer,
    ends_beside,
    unnamed_ends,
)

_DISTURBED: Final = (
    "The lists of its other calls come short while a call names ids, so none are named (vLLM: its V1 model runner, as "
    "on CPUs; the V2 one, VLLM_USE_V2_MODEL_RUNNER=1, keeps them apart)."
)
_HOSTED_K: Final = 5  # OpenAI's limit, tried when a refusal does not name the server's


async def measured(box: CompletionsBox, tokenizer: TokenizerView) -> CompletionsBox:
    """The box with the capabilities that the black box really has. Raises UncorrectableUpstream, UpstreamError."""
    wanted_k, remarks = box.capabilities.k, list[str]()
    box = await _settled_on_k(box, probe_prompts(box, tokenizer)[0])
    if not box.capabilities.ids_in:
        box, remarks = await reading(box, tokenizer)
    prompt = probe_prompts(box, tokenizer)[0]
    box = box.knowing(raw_logprobs=await Probe(box, prompt).is_raw())
    if box.capabilities.raw_logprobs and isinstance(box, TextBox) and box.takes_bias and not box.capabilities.ids_in:
        box = box.knowing(raw_with_bias=await Probe(box, prompt).is_raw_with_bias())
    if not box.capabilities.raw_logprobs:
        box = box.knowing(greedy_raw=await Probe(box, prompt).greedy_is_raw())
    await Probe(box, prompt).check_continuation()
    box = box.knowing(**await _vocabulary(Probe(box, prompt), tokenizer))
    probe = Probe(box, prompt)
    notes = remarks if remarks or box.takes_chats else await check_tokenizer(probe, tokenizer)
    ends = await ends_beside(probe, tokenizer)
    box = box.knowing(end_ids=tuple(dict.fromkeys((*box.capabilities.end_ids, *ends))))
    notes += unnamed_ends(box.capabilities.end_ids, tokenizer)
    cached = await probe.reads_its_cache() if box.capabilities.prefix_cache is None else False
    box = box.knowing(**await proven_methods(box, tokenizer), prefix_cache=cached)
    listed = await Probe(box, prompt).listed(0.0 if box.capabilities.raw_logprobs else 1.0)
    box = box.knowing(named_ids=await most_named(box, prompt, listed), **await forms(box, prompt))
    if box.capabilities.named_ids and await disturbs_others(box, prompt, listed.top_ids):
        box, notes = box.knowing(named_ids=0), [*notes, _DISTURBED]
    return box.knowing(notes=(*box.capabilities.notes, *notes, *_remarks(box, wanted_k)))


async def _settled_on_k(box: CompletionsBox, prompt: list[int]) -> CompletionsBox:
    """With the largest k up to the wanted one, and for text dialects whether ids are taken as the prompt."""
    while True:
        try:
            await Probe(box, prompt).listed(1.0)
            return box
        except Refusal as refusal:
            changes = _after_refusal(box, refusal)
        except MalformedTopK as error:
            changes = _after_short_list(box.capabilities, error)
        box = box.knowing(**changes)


def _after_refusal(box: CompletionsBox, refusal: Refusal) -> dict[str, Any]:
    facts = box.capabilities
    if refusal.http_status not in (400, 422):
        raise refusal
    limit = None if refusal.largest_k is None else refusal.largest_k - box.spare
    if limit is not None and limit < 1:
        raise UncorrectableUpstream("The upstream gives no log-probabilities: allow them (vLLM: --max-logprobs 20).")
    if limit is None and facts.dialect in ("openai", "fireworks"):
        limit = _HOSTED_K
    if limit is not None and limit < facts.k:
        return {"k": limit, "max_k": limit}
    if facts.dialect == "openai" and facts.ids_in:
        return {"ids_in": False}
    raise refusal


def _after_short_list(facts: Capabilities, error: MalformedTopK) -> dict[str, Any]:
    if facts.dialect in ("openai", "fireworks") and facts.k > _HOSTED_K:
        return {"k": _HOSTED_K, "max_k": _HOSTED_K}  # some servers cut the list without a word
    hint = " Start vLLM with --logprobs-mode raw_logprobs." if "not normalised" in error.message else ""
    raise UncorrectableUpstream(error.message + hint) from error


async def _vocabulary(probe: Probe, tokenizer: TokenizerView) -> dict[str, int]:
    """The upstream's number of ids and largest k, where it tells; refuses fewer ids than ours."""
    facts = probe.box.capabilities
    sizes = await probe.sizes() if facts.dialect == "vllm" else {}
    size = sizes.get("vocab_size") or facts.vocab_size
    if facts.dialect == "llamacpp" and size:
        sizes = {"max_k": size}
    if size is not None and size < tokenizer.vocab_size:
        raise UncorrectableUpstream(
            f"The upstream's model has {size} token ids and the pair's tokenizer {tokenizer.vocab_size}: "
            "they are different tokenizers."
        )
    return sizes


def _remarks(box: CompletionsBox, wanted_k: int) -> list[str]:
    facts, remarks = box.capabilities, []
    if facts.k < wanted_k:
        remarks.append(f"It lists at most {facts.k} tokens a position; {wanted_k} were wanted.")
    if not facts.raw_logprobs:
        remarks.append(
            "Its log-probabilities change with the temperature, so drafts are drawn at temperature 1 and more of them "
            "are replaced (vLLM: --logprobs-mode raw_logprobs; SGLang: SGLANG_RETURN_ORIGINAL_LOGPROB=1)."
        )
    if facts.list_masked and not facts.same_forms:
        remarks.append(
            "It reads grammars with another engine, which may allow other tokens: structured answers begin without it "
            "(vLLM: --structured-outputs-config.backend guidance; SGLang: --grammar-backend llguidance)."
        )
    if not box.trusts_draws:
        remarks.append(
            "Tokens of sampled answers are drawn here and its own are only guesses: it may hide some of them, is not "
            "known to show all, or trust_draws is off."
        )
    if facts.dialect in ("openai", "fireworks"):
        remarks.append(
            "Its own top_k, min_p and repetition penalty cannot be switched off here: they must be off there."
        )
    if not facts.ids_in:
        remarks.append(
            "It takes prompts as text only: an answer whose tokens no text says can be continued only where it draws "
            "these tokens again by itself."
        )
    return remarks
