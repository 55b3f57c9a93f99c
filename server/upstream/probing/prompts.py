"""What the probe asks about: two short prompts, in the form that the black box takes."""

from typing import Any, Final

from deltaserve.errors import UncorrectableUpstream
from deltaserve.server.upstream.base import TokenizerView
from deltaserve.server.upstream.dialects.completions import CompletionsBox

_TEXTS: Final = ("The capital of France is", "My name is")
_QUESTIONS: Final = ("What is the capital of France", "Which river runs through Paris")


def probe_prompts(box: CompletionsBox, tokenizer: TokenizerView) -> tuple[list[int], list[int]]:
    """Ids of both. Raises UncorrectableUpstream where the pair's tokenizer makes nothing of them."""
    if box.takes_chats:
        one, other = (tokenizer.encode(rendered(tokenizer, question)) for question in _QUESTIONS)
    else:
        head = [] if box.capabilities.begins is None else [box.capabilities.begins]
        one, other = ([*head, *tokenizer.encode(text)] for text in _TEXTS)
    if not one:
        raise UncorrectableUpstream("The pair's tokenizer makes no tokens of plain text.")
    return one, other or one


def rendered(tokenizer: Any, question: str, *earlier: dict[str, str]) -> str:
    """A chat up to where its answer begins; its tokenizer has a chat template."""
    text: str = tokenizer.render_chat([*earlier, {"role": "user", "content": question}])
    return text
