"""What every attack is given and what it gives back."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from deltaserve.client.evaluation.attacks.items import Item, Suite
from deltaserve.client.evaluation.side import Message, Side

Family = Literal["wording", "beginning", "sampling", "parameters", "logprobs", "channels"]
MAX_TOKENS: Final = 48
FEW_CALLS: Final = 24  # tries of one item by an attack that samples


@dataclass(frozen=True, slots=True)
class Try:
    """One answer an attack got: what it says, and what the attacker had said of it already."""

    text: str
    begun: str = ""


@dataclass(frozen=True, slots=True)
class Field:
    """Whom an attack is run against and with what."""

    side: Side
    suite: Suite
    samples: int = 100  # of the attacks that draw many
    max_tokens: int = MAX_TOKENS


@dataclass(frozen=True, slots=True)
class Finding:
    """What an attack on one item came to. `leaked` and `swapped` are given where texts do not decide."""

    tries: Sequence[Try] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    leaked: bool | None = None
    swapped: bool | None = None  # the same for somebody else's secret: what guessing gets


Run = Callable[[Field, Item], Awaitable[Finding]]


@dataclass(frozen=True, slots=True)
class Attack:
    """One row of the table."""

    name: str
    family: Family
    what: str  # a sentence for people who do not read code
    run: Run
    costly: bool = False  # run on a few items only
    served_only: bool = False  # asks for what only deltaserve has


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


async def asked(field: Field, conversations: Sequence[Sequence[Message]], **params: object) -> list[Try]:
    """One greedy answer to each conversation; where its last turn is the assistant's, that is what was begun."""
    found = []
    for messages in conversations:
        said = await field.side.chat(messages, **{"max_tokens": field.max_tokens, **params})
        begun = messages[-1]["content"] if messages[-1]["role"] == "assistant" else ""
        found.append(Try(said.text, begun))
    return found
