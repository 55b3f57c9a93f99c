"""Are the upstream's token ids ours? Compared text by text, through `/tokenize` where the server has it."""

from typing import Any

from server.errors import UncorrectableUpstream, UpstreamRefused
from server.upstream.base import TokenizerView
from server.upstream.measure import Probe

_SAMPLES = {
    "plain text": "The capital of France is Paris.",
    "accents": "Crème brûlée, naïve façade, Ångström, žluťoučký kůň",
    "emoji": "🙂 🦙🫠 👩‍👩‍👧",
    "spaces": "a  b   c\n\n\td \n e",
    "digits": "1234567890 3.14159 10,000",
    "code": "def f(x):\n    return x ** 2  # ok\n",
    "other scripts": "日本語 русский العربية ไทย",
}
_MOST_SPECIALS = 3


def probe_prompt(tokenizer: TokenizerView) -> list[int]:
    """The prompt of the probe's requests."""
    prompt = tokenizer.encode("The capital of France is")
    if not prompt:
        raise UncorrectableUpstream("The pair's tokenizer makes no tokens of plain text.")
    return prompt


async def check_tokenizer(probe: Probe, tokenizer: TokenizerView) -> list[str]:
    """Remarks for the operator; UncorrectableUpstream when a sample becomes other tokens there than here."""
    samples = _SAMPLES | _specials(tokenizer)
    try:
        for kind, text in samples.items():
            if await _tokenized(probe, text) != tokenizer.encode(text):
                raise _mismatch(kind)
    except UpstreamRefused:
        return await _check_counts(probe, tokenizer)
    return []


def _specials(tokenizer: TokenizerView) -> dict[str, str]:
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
    answer = await probe.post("/tokenize", body)
    return answer.get("tokens") if isinstance(answer, dict) else None


async def _check_counts(probe: Probe, tokenizer: TokenizerView) -> list[str]:
    """Without /tokenize: the number of tokens that each sample costs, up to a begin-of-text token."""
    extra = set()
    try:
        for text in _SAMPLES.values():
            usage = (await probe.whole(prompt=text)).get("usage") or {}
            if not isinstance(usage.get("prompt_tokens"), int):
                return ["Its tokenizer could not be compared: it has no /tokenize and counts no prompt tokens."]
            extra.add(usage["prompt_tokens"] - len(tokenizer.encode(text)))
    except UpstreamRefused:
        return ["Its tokenizer could not be compared: it has no /tokenize and refuses text prompts."]
    if len(extra) > 1 or not extra <= {0, 1}:
        raise _mismatch("how many tokens a text has")
    return ["Its tokenizer was compared by token counts only: it has no /tokenize."]


def _mismatch(kind: str) -> UncorrectableUpstream:
    return UncorrectableUpstream(
        f"The upstream's tokenizer is not the pair's: they differ on {kind}. "
        "The pair must be of the black box's model family, with the same vocabulary."
    )
