"""Encodes an answer as the ids that follow its prompt's, never alone.

Alone it would gain the space that many vocabularies put before a text's first word. And it is served behind the ids of
the prompt alone, so no token may begin in the prompt and end in the answer.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from unicodedata import normalize

from deltaserve.errors import BadRequest

if TYPE_CHECKING:
    from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer

# What an answer may be encoded behind when tokens would join it to its prompt: one of them joins no given text.
ANCHORS: Final = ("\n", "a", "0", ".", "\n\n.")


@dataclass(frozen=True, slots=True)
class Answered:
    """A prompt as it is served, and the answer's ids behind it; the token that ends it is not among them."""

    prompt_ids: list[int]
    answer_ids: list[int]


def behind(head: Sequence[int], whole: Sequence[int]) -> list[int] | None:
    """What follows `head` in `whole`; None where that does not begin with it."""
    return list(whole[len(head) :]) if list(whole[: len(head)]) == list(head) else None


def behind_anchors(encode: Callable[[str], Sequence[int]], text: str, anchors: Sequence[str]) -> Iterator[list[int]]:
    """Ids of `text` behind each of the anchors that no token joins to it."""
    for anchor in anchors:
        ids = behind(encode(anchor), encode(anchor + text))
        if ids is not None:
            yield ids


def completed(tokenizer: "Tokenizer", prompt: str, completion: str, *, add_special: bool = True) -> Answered:
    """Running text behind a prompt as /v1/completions encodes it. Raises BadRequest.

    `add_special`: False where the prompt is a chat that the template has rendered, special tokens included.
    """
    return Answered(tokenizer.encode(prompt, add_special=add_special), _continued(tokenizer, prompt, completion))


def whole_text(tokenizer: "Tokenizer", text: str) -> Answered:
    """Running text without a prompt: behind what the tokenizer puts before every text, else behind its first token."""
    return behind_start(tokenizer.encode(text), tokenizer.encode(text, add_special=True))


def behind_start(plain: Sequence[int], served: Sequence[int]) -> Answered:
    """A text's ids, `plain`, behind what stands before them in `served`; else behind the first of them."""
    plain, served = list(plain), list(served)
    before = next(at for at in range(len(served) + 1) if served[at : at + len(plain)] == plain)
    return Answered(served[:before], plain) if before else Answered(plain[:1], plain[1:])


def answered(tokenizer: "Tokenizer", messages: Sequence[Mapping[str, Any]], answer: str) -> Answered:
    """A chat up to where the answer begins, as /v1/chat/completions encodes it, and the answer.

    What the template itself writes between the two comes with the prompt (an empty thought, a channel's name): there it
    is read, not learnt. White space before the answer comes with the answer (Llama 2). Raises BadRequest.
    """
    prompt = tokenizer.render_chat(messages)
    lead, words = _begun(tokenizer, messages, prompt, answer)
    ids = tokenizer.encode(prompt)
    if lead:
        ids += _continued(tokenizer, prompt, lead)
    return Answered(ids, _continued(tokenizer, prompt + lead, words))


def _begun(tokenizer: "Tokenizer", messages: Sequence[Mapping[str, Any]], prompt: str, answer: str) -> tuple[str, str]:
    """What the template writes behind the prompt, up to the end of the answer's words: ahead of them, and they."""
    chat = [*messages, {"role": "assistant", "content": answer}]
    try:
        text = tokenizer.render_chat(chat, add_generation_prompt=False, continue_final_message=True)
    except BadRequest:  # a template that rewrites such an answer; it may be served all the same
        return "", answer
    written = text.removeprefix(prompt)
    words = next((words for words in (answer, answer.strip()) if written.endswith(words)), None)
    if not text.startswith(prompt) or words is None:
        return "", answer
    lead = written.removesuffix(words).rstrip()
    return lead, written.removeprefix(lead)


def _continued(tokenizer: "Tokenizer", prompt: str, text: str) -> list[int]:
    """Ids that follow those of `prompt` alone and say `text` there. Raises BadRequest."""
    head, whole = tokenizer.encode(prompt), tokenizer.encode(prompt + text)
    ids = behind(head, whole)
    if ids is not None:
        return ids
    expected = normalize("NFC", tokenizer.decode(whole))
    for ids in behind_anchors(tokenizer.encode, text, ANCHORS):
        if normalize("NFC", tokenizer.decode([*head, *ids])) == expected:
            return ids
    raise BadRequest(
        "No ids of this tokenizer continue the prompt with the answer: begin the answer at a word's start."
    )
