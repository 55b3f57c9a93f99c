"""Are the upstream's token ids ours? Compared text by text, through `/tokenize` where the server has it."""

import re
from collections.abc import Sequence
from typing import Any

from deltaserve.errors import UncorrectableUpstream, UpstreamRefused
from deltaserve.server.upstream.base import TokenizerView
from deltaserve.server.upstream.probing.probe import Probe

SAMPLES = {
    "plain text": "The capital of France is Paris.",
    "accents": "Crème brûlée, naïve façade, Ångström, žluťoučký kůň",
    "emoji": "🙂 🦙🫠 👩‍👩‍👧",
    "spaces": "a  b   c\n\n\td \n e",
    "digits": "1234567890 3.14159 10,000",
    "code": "def f(x):\n    return x ** 2  # ok\n",
    "other scripts": "日本語 русский العربية ไทย",
}
_MOST_SPECIALS = 3
_MOST_ENDS = 8
_LIKE_AN_END = re.compile(r"end|eo[stmdf]|stop|/s>|return", re.IGNORECASE)


async def check_tokenizer(probe: Probe, tokenizer: TokenizerView) -> list[str]:
    """Remarks for the operator; UncorrectableUpstream when a sample becomes other tokens there than here."""
    samples = SAMPLES | special_samples(tokenizer)
    try:
        for kind, text in samples.items():
            if await _tokenized(probe, text) != tokenizer.encode(text):
                raise mismatch(kind)
    except UpstreamRefused:
        return await _check_counts(probe, tokenizer)
    return []


def special_samples(tokenizer: TokenizerView) -> dict[str, str]:
    """A few special tokens: those near either end of the vocabulary that look like markup and encode to themselves."""
    size = tokenizer.vocab_size
    near = [*range(size - 1, max(size - 64, 0), -1), *range(min(8, size))]
    texts = [text for i in near if (text := tokenizer.token_text(i)).startswith("<") and text.endswith(">")]
    special = [text for text in dict.fromkeys(texts) if _is_one_token(tokenizer, text)]
    return {f"the special token {text}": f"a{text}b" for text in special[:_MOST_SPECIALS]}


def _is_one_token(tokenizer: TokenizerView, text: str) -> bool:
    return len(tokenizer.encode(text)) == 1


async def _tokenized(probe: Probe, text: str) -> Any:
    facts = probe.box.capabilities
    if facts.dialect == "openai":
        raise UpstreamRefused("This dialect has no /tokenize.")
    body: dict[str, Any] = {"model": facts.model, "prompt": text, "add_special_tokens": False}
    if facts.dialect == "llamacpp":
        body = {"content": text, "add_special": False, "parse_special": True}
    answer = await probe.box.post(body, "/tokenize")
    return answer.get("tokens") if isinstance(answer, dict) else None


async def _check_counts(probe: Probe, tokenizer: TokenizerView) -> list[str]:
    """Without /tokenize: the number of tokens that each sample costs, up to a begin-of-text token."""
    extra = set()
    try:
        for text in SAMPLES.values():
            usage = (await probe.whole(prompt=text)).get("usage") or {}
            if not isinstance(usage.get("prompt_tokens"), int):
                return ["Its tokenizer could not be compared: it has no /tokenize and counts no prompt tokens."]
            extra.add(usage["prompt_tokens"] - len(tokenizer.encode(text)))
    except UpstreamRefused:
        return ["Its tokenizer could not be compared: it has no /tokenize and refuses text prompts."]
    if len(extra) > 1 or not extra <= {0, 1}:
        raise mismatch("how many tokens a text has")
    return ["Its tokenizer was compared by token counts only: it has no /tokenize."]


async def ends_beside(probe: Probe, tokenizer: TokenizerView) -> list[int]:
    """Special tokens that end the black box's answers and that the pair's own files do not name as an end."""
    if not probe.box.capabilities.ids_out:
        return []  # it lists texts, and special tokens have none
    unnamed = sorted(tokenizer.special_ids.difference(tokenizer.eos_ids))
    likely = [i for i in unnamed if _LIKE_AN_END.search(tokenizer.token_text(i))][:_MOST_ENDS]
    return [i for i in likely if await probe.ends_with(i)]


def named_end(end: str | int | None, tokenizer: TokenizerView) -> tuple[int, ...]:
    """The id of the end token that a server names by its text or its id; none where that is no token."""
    if isinstance(end, int):
        return (end,) if 0 <= end < tokenizer.vocab_size else ()
    ids = tokenizer.encode(end) if end else []
    return tuple(ids) if len(ids) == 1 else ()


def unnamed_ends(end_ids: Sequence[int], tokenizer: TokenizerView) -> list[str]:
    """A remark where the two sides end answers differently."""
    named = ", ".join(f"{tokenizer.token_text(i)} ({i})" for i in tokenizer.eos_ids)
    more = [f"{tokenizer.token_text(i)} ({i})" for i in end_ids if i not in tokenizer.eos_ids]
    if not more:
        return []
    return [
        f"It ends its answers with {', '.join(more)}, the pair's files with {named or 'nothing'}: all of them end one."
    ]


def mismatch(kind: str) -> UncorrectableUpstream:
    return UncorrectableUpstream(
        f"The upstream's tokenizer is not the pair's: they differ on {kind}. Take a pair of the black box's model "
        "family, or give --upstream-tokenizer, the folder of the black box's own tokenizer (docs/bridge.md)."
    )
