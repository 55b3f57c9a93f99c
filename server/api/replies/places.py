"""Where each token's text begins in the text of a choice, in characters.

The rule: as many characters as the text of all tokens before it has, where half a character counts as one.
"""

import codecs
from collections.abc import Iterator, Sequence
from functools import cached_property

from deltaserve.server.serving.ports import Tokenizer

_Utf8 = codecs.getincrementaldecoder("utf-8")


class Places:
    """The places of one choice. Its answer stands behind `echoed_text`, which is the prompt's text or empty.

    `special`: its special tokens have text.
    """

    def __init__(
        self, tokenizer: Tokenizer, prompt_ids: Sequence[int], echoed_text: str = "", *, special: bool = False
    ) -> None:
        self._tokenizer = tokenizer
        self._prompt_ids, self._echoed_text = prompt_ids, echoed_text
        self._answer = tokenizer.detokenizer(prompt_ids, special=special)
        self._shown = len(echoed_text)

    def of_answer(self, token_id: int) -> int:
        """Where the answer's next token begins."""
        place = self._shown + self._answer.incomplete
        self._shown += len(self._answer.step(token_id))
        return place

    @cached_property
    def of_prompt(self) -> Iterator[int]:
        """Where each token of the prompt begins, in their order."""
        end = len(self._echoed_text)
        # Some encodings put a space before a text, also before one that begins with a space itself.
        tries = [self._laid_out(dropped) for dropped in (True, False)]
        places = next((places for places in tries if places[-1] == end), tries[-1])
        return (min(place, end) for place in places)

    def _laid_out(self, dropped: bool) -> list[int]:
        """Where every token begins and the last one ends, if the first one's space is `dropped`."""
        utf8, places, length = _Utf8("replace"), [0], 0
        for token_id in self._prompt_ids:
            raw, at = self._tokenizer.token_bytes(token_id), places[-1]
            if token_id in self._tokenizer.special_ids:  # in the text, or put around it by encoding
                raw = raw if self._echoed_text.startswith(raw.decode(), at) else b""
            elif (dropped and not at) or not self._echoed_text.startswith(" ", at):
                dropped, raw = dropped and not raw.startswith(b" "), raw.removeprefix(b" ")
            length += len(utf8.decode(raw))
            places.append(length + bool(utf8.getstate()[0]))
        return places
