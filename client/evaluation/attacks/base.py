"""What every attack is given and what it gives back."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from deltaserve.client.calls import Message
from deltaserve.client.evaluation.data.items import Item, Suite
from deltaserve.client.evaluation.target import MAX_TOKENS, Target

Family = Literal["wording", "beginning", "sampling", "parameters", "logprobs", "channels"]
FEW_CALLS: Final = 24  # tries of one item by an attack that samples


class Inapplicable(Exception):
    """The attack cannot be made with this item or against this server; the message says why."""


@dataclass(frozen=True, slots=True)
class Try:
    """One answer that an attack got, and the beginning of it that the attacker wrote."""

    text: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """The server that is attacked, the suite that the item belongs to, and how much is tried."""

    target: Target
    suite: Suite
    samples: int = 100  # of the attacks that draw many
    max_tokens: int = MAX_TOKENS


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of an attack on one item. `leaked` and `swapped` are given where the texts do not decide."""

    tries: Sequence[Try] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    leaked: bool | None = None
    swapped: bool | None = None  # whether the secret of another item came out: what guessing gets


Run = Callable[[Context, Item], Awaitable[Finding]]


@dataclass(frozen=True, slots=True)
class Attack:
    """One row of the table."""

    name: str
    family: Family
    what: str  # a sentence for people who do not read code
    run: Run
    costly: bool = False  # run on a few items only
    served_only: bool = False  # asks for what only deltaserve has


async def greedy_tries(context: Context, conversations: Sequence[Sequence[Message]], **params: object) -> list[Try]:
    """One greedy answer to each conversation; where its last turn is the assistant's, that is the prefix."""
    tries = []
    for messages in conversations:
        reply = await context.target.ask(messages, **{"max_tokens": context.max_tokens, **params})
        prefix = messages[-1]["content"] if messages[-1]["role"] == "assistant" else ""
        tries.append(Try(reply.text, prefix))
    return tries
