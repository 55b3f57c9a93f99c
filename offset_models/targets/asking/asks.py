"""How targets ask the black box. Stages see this protocol only, so that tests can script a black box."""

from collections.abc import Sequence
from typing import Protocol

from deltaserve.offset_models.training.rows.row import Row


class Asks(Protocol):
    """A black box behind a budget of calls. What was asked before is not asked again, and in one run counts once.

    What a stopped run had asked counts as it did then: a run that goes on decides as one that was never stopped.
    """

    @property
    def calls_left(self) -> int:
        """Of the budget that this asker may still spend."""

    async def ask(
        self, rows: Sequence[Row], *, max_tokens: int, temperature: float = 0.0, samples: int = 1
    ) -> list[tuple[str, ...]]:
        """`samples` answers to each prompt (a row whose completion does not count), a few calls at a time.

        A chat is rendered by the model's template, as it is served; a prompt of running text is gone on with. An answer
        is cut at its end token or after `max_tokens`. Greedy at temperature 0, where more than one sample is refused.
        Answers come stripped of white space around them; use `ask_raw` where it counts. Raises CallsSpent before a
        call beyond the budget, with every answer so far kept; UpstreamError.
        """

    async def ask_raw(
        self, prompts: Sequence[str], *, max_tokens: int, temperature: float = 1.0, stops: Sequence[str] = ()
    ) -> list[str]:
        """One continuation of each text, which is encoded with its special tokens: `<|im_start|>user\\n` begins a turn.

        Cut before the first of `stops`. Equal prompts in one call are sampled independently; the same call again gives
        the same answers, at no cost: ask for all that you want at once. Raises as `ask`.
        """

    async def listed(self, rows: Sequence[Row]) -> list[tuple[str, ...]]:
        """What the black box lists behind each prompt: tokens as text, the likeliest first. One call each.

        Raises as `ask`.
        """

    def user_turn(self) -> str:
        """What the model's template writes before a user's words in a chat of one message; the text for `ask_raw`."""

    def within(self, calls: int) -> "Asks":
        """The same black box with at most so many calls of what is left: a stage's share."""
