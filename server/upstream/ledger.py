"""What one streamed answer says of itself, and whether it adds up."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from deltaserve.errors import MalformedTopK

WITHOUT_LIST: Final = (
    "The upstream gives no log-probabilities for a part of its answer: its tokens come without their list."
)
BROKEN_OFF: Final = ("error", "abort")  # finish reasons of an answer that is none


@dataclass(slots=True)
class Ledger:
    """The counts of one answer to one prompt. All of it raises MalformedTopK where the answer contradicts itself."""

    hides_tokens: bool  # the dialect may draw tokens that it does not show; else each comes with its list, at once
    counts_prompt: bool = False  # the dialect's text offsets may count the prompt's characters too
    positions: int = 0  # shown with their lists
    drawn: int | None = None  # tokens the upstream says it drew, hidden ones included
    read: int | None = None  # tokens of the prompt, as the upstream counts them
    cached: int = 0  # of these, those that it says it had in its cache
    finish: str | None = None
    loose_text: bool = False  # text came at the end without a list: it may be a hidden token's
    _prompt: int = 0  # the first token's text offset, where it may be other than 0
    _named: int = 0  # characters of the tokens' names so far
    _written: int = 0  # bytes of the text so far

    def read_usage(self, usage: dict[str, Any]) -> None:
        """Any chunk may have it; the last one counts."""
        drawn = usage.get("completion_tokens")
        if drawn is None:
            return
        if type(drawn) is not int or drawn < 0:
            raise MalformedTopK("The upstream's usage does not count its tokens.")
        self.drawn = drawn
        read = usage.get("prompt_tokens")
        self.read = read if type(read) is int and read >= 0 else None
        self.cached = min(_cached(usage), self.read or 0)

    def only(self, choices: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
        """The choice of a chunk; None where it has none."""
        if not choices:
            return None
        if len(choices) > 1 or choices[0].get("index", 0) != 0:
            raise MalformedTopK("The upstream sent another choice than the one that was asked for.")
        return choices[0]

    def open_to(self, choice: dict[str, Any]) -> None:
        """To be called before a choice's lists are read: nothing may follow the end, and no position may be missing."""
        logprobs, text = choice.get("logprobs"), choice.get("text") or ""
        if self.finish is not None and (logprobs or _has_tokens(choice)):
            raise MalformedTopK("The upstream went on after the end of its answer.")
        if logprobs and not self.hides_tokens:
            self._check_offset(logprobs)
        self._written += len(text) if text.isascii() else len(text.encode())

    def _check_offset(self, logprobs: dict[str, Any]) -> None:
        """vLLM counts the characters of the names before a token, or those of the text: more than both is a gap."""
        offsets, names = logprobs.get("text_offset"), logprobs.get("tokens")
        if not offsets or not names:
            return
        if self.positions == 0 and self.counts_prompt:
            self._prompt = offsets[0]
        if max(self._named, self._written) + self._prompt < offsets[0]:
            raise MalformedTopK("The upstream left out a token: its text offset is past all that it sent.")
        self._named += sum(map(len, names))

    def unlisted(self, choice: dict[str, Any]) -> bool:
        """A choice came without a list; whether a token was hidden there."""
        reason = choice.get("finish_reason")
        if reason in BROKEN_OFF:
            return False
        if self.hides_tokens:
            self.loose_text |= _has_tokens(choice)
            return reason is None
        if reason is None or _has_tokens(choice):
            raise MalformedTopK(WITHOUT_LIST)
        return False

    def ended(self) -> bool:
        """The answer is complete; whether its last tokens were hidden."""
        if self.drawn is not None and self.drawn < self.positions:
            raise MalformedTopK("The upstream counts fewer tokens than it showed.")
        if self.drawn is None:
            return self.positions == 0 or self.loose_text
        return self.positions == 0 or self.drawn > self.positions

    @property
    def all_shown(self) -> bool:
        """As far as is known."""
        return self.drawn is None or self.drawn <= self.positions

    def hid_only_its_end(self) -> bool:
        """Whether nothing but the token that it ended with was not shown."""
        return self.finish == "stop" and self.drawn == self.positions + 1

    def more_than_its_end_is_hidden(self) -> bool:
        """Whether tokens were left out of an answer beside the one that ended it, and one that came last, unlisted."""
        allowed = (self.finish == "stop") + self.loose_text
        return self.drawn is None or self.drawn > self.positions + allowed

    def denies_its_text(self) -> bool:
        """Whether text came without a list although all tokens that it counts came with one."""
        return self.loose_text and self.drawn == self.positions

    def read_end(self, choice: dict[str, Any]) -> bool:
        """The finish reason, where the choice has one; False where the upstream broke its answer off."""
        reason = choice.get("finish_reason")
        self.finish = reason or self.finish
        return reason not in BROKEN_OFF


def _has_tokens(choice: dict[str, Any]) -> bool:
    return bool(choice.get("text") or choice.get("token_ids"))


def _cached(usage: dict[str, Any]) -> int:
    """Prompt tokens from the cache, in OpenAI's shape or DeepSeek's; 0 where nothing is said."""
    details = usage.get("prompt_tokens_details")
    said = details.get("cached_tokens") if isinstance(details, dict) else usage.get("prompt_cache_hit_tokens")
    return said if type(said) is int and said > 0 else 0
