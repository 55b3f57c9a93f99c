"""How a black box reads text: compared with the pair's tokenizer by the number of tokens that it bills."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Final

from deltaserve.errors import BadRequest, UncorrectableUpstream, UpstreamRefused
from deltaserve.server.decoding.protocols import DraftParams
from deltaserve.server.upstream.base import TokenizerView
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.dialects.text_box import prompt_counts
from deltaserve.server.upstream.probing.prompts import rendered
from deltaserve.server.upstream.probing.tokenizer_check import SAMPLES, mismatch, special_samples

_COMPARED: Final = "Its tokenizer was compared by token counts only: it has no /tokenize."
_NOT_COMPARED: Final = "Its tokenizer could not be compared: it counts no prompt tokens."
_NO_SPECIALS: Final = (
    "It reads special tokens in a prompt as plain text: chats cannot be asked, unless it is asked by its chat route "
    "(--upstream-dialect chat)."
)
_SPACE: Final = "The answer is "  # some cut it off
_EARLIER: Final = ({"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hello, too."})


async def reading(box: CompletionsBox, tokenizer: TokenizerView) -> tuple[CompletionsBox, list[str]]:
    """The box with what is known of how it reads prompts, and remarks. Raises UncorrectableUpstream, UpstreamError."""
    return await (_chats(box, tokenizer) if box.takes_chats else _texts(box, tokenizer))


async def _texts(box: CompletionsBox, tokenizer: TokenizerView) -> tuple[CompletionsBox, list[str]]:
    beside = [found async for found in _beside(box, tokenizer, (*SAMPLES.values(), _SPACE)) if found]
    if not beside:
        return box, [_NOT_COMPARED]
    added = set.intersection(*beside) & {0, 1}
    if not added:
        raise mismatch("how many tokens a text has")
    box = box.knowing(begins=_begin(tokenizer) if max(added) else None, counts_prompts=True)
    own = [found async for found in _beside(box, tokenizer, special_samples(tokenizer).values())]
    reads = all(not found or max(added) in found for found in own)
    return box.knowing(reads_specials=reads), [_COMPARED, *([] if reads else [_NO_SPECIALS])]


async def _beside(box: CompletionsBox, tokenizer: TokenizerView, texts: Iterable[str]) -> AsyncIterator[set[int]]:
    """By how many tokens its count of each text is above the pair's; several where parts of it may be counted apart."""
    for text in texts:
        ids = tokenizer.encode(text)
        try:
            yield {count - len(ids) for count in await _counts(box.knowing(begins=None), ids)}
        except UpstreamRefused:
            yield set()


async def _counts(box: CompletionsBox, ids: list[int]) -> set[int]:
    """Tokens of a prompt as it counts them: with and without those that it found in its cache, if it counts these."""
    answer = box.reader()(await box.post(box.request(ids, 0.0, DraftParams(0.0, 1))))
    usage = answer.get("usage") if isinstance(answer, Mapping) else None
    return prompt_counts(usage or {})


def _begin(tokenizer: TokenizerView) -> int:
    """The token that the pair puts before a text. Raises UncorrectableUpstream where it puts none."""
    plain, whole = tokenizer.encode("a"), tokenizer.encode("a", add_special=True)
    if len(whole) <= len(plain) or whole[1 : 1 + len(plain)] != plain:
        raise UncorrectableUpstream("The upstream puts a token before every text, and the pair's tokenizer has none.")
    return whole[0]


async def _chats(box: CompletionsBox, tokenizer: TokenizerView) -> tuple[CompletionsBox, list[str]]:
    """Chats with and without a beginning of the answer must have as many tokens there as here."""
    compared = False
    for text in _chat_samples(tokenizer):
        ids = tokenizer.encode(text)
        try:
            counts = await _counts(box, ids)
        except UpstreamRefused:
            continue
        if counts and len(ids) not in counts:
            raise UncorrectableUpstream(
                f"The upstream reads {max(counts)} tokens where the pair's chat template makes {len(ids)}: it has "
                "another template, adds a system prompt, or does not go on behind the beginning of an answer."
            )
        compared = compared or bool(counts)
    return box.knowing(counts_prompts=compared), [] if compared else [_NOT_COMPARED]


def _chat_samples(tokenizer: TokenizerView) -> Iterator[str]:
    questions: tuple[tuple[str, tuple[dict[str, str], ...]], ...] = (
        ("Crème brûlée, 東京?", ()),
        ("And 1234567890", _EARLIER),
        ("What is it", ({"role": "system", "content": "Be brief."},)),
    )
    for question, earlier in questions:
        try:
            text = rendered(tokenizer, question, *earlier)
        except BadRequest:  # a template without such a chat
            continue
        yield text
        yield text + "The answer is"
        yield text + "The answer is "
