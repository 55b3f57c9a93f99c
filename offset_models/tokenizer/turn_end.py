"""The token that ends a turn of a chat: what the model's own template puts behind an assistant's words."""

from typing import TYPE_CHECKING, Final

from deltaserve.errors import BadRequest

if TYPE_CHECKING:
    from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer

# Words that no template holds, begun and ended by a letter: templates trim what they are given.
_QUESTION: Final = "Which7word7is7asked7for"
_ANSWER: Final = "This7word7is7answered"


def turn_end_id(tokenizer: "Tokenizer") -> int | None:
    """The added token that follows an assistant's words; None without a template, or where it puts plain text there."""
    user, assistant = {"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}
    # Some templates end a turn only where another follows, and some end it by the mark that opens the next one.
    for messages in ([user, assistant], [user, assistant, user]):
        try:
            text = tokenizer.render_chat(messages, add_generation_prompt=False)
        except BadRequest:
            continue
        _, answered, behind = text.rpartition(_ANSWER)
        if answered and (found := _first_mark(tokenizer, behind)) is not None:
            return found
    return None


def _first_mark(tokenizer: "Tokenizer", text: str) -> int | None:
    """The added token that `text` begins with, white space aside; a beginning of text is no end."""
    ids = tokenizer.encode(text.lstrip(), add_special=False)
    if not ids or ids[0] not in tokenizer.added_ids:
        return None
    return None if ids[0] == tokenizer.bos_id and ids[0] not in tokenizer.eos_ids else ids[0]
