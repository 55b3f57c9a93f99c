"""A chat request, checked and ready to be answered: what is generated, and who reads what each choice says."""

from collections.abc import Sequence
from dataclasses import dataclass

from deltaserve.server.answers.parts import Part
from deltaserve.server.answers.reading import Reader
from deltaserve.server.api.chat.prompt import chat_ids, opens_turn
from deltaserve.server.api.replies.exchange import Exchange
from deltaserve.server.api.replies.usage import Usage
from deltaserve.server.api.requests.parameters import chat_shape, plan
from deltaserve.server.api.requests.schema import ChatRequest
from deltaserve.server.api.requests.structured import constraint_of, held
from deltaserve.server.decoding.stream import Piece
from deltaserve.server.serving.ports import Version
from deltaserve.server.serving.service import Choice


@dataclass(frozen=True, slots=True)
class PreparedChat:
    """`choices` and `readers` have one order, that of the choices' indices."""

    choices: Sequence[Choice]
    readers: Sequence[Reader]
    usage: Usage

    @property
    def prompt_ids(self) -> Sequence[int]:
        return self.choices[0].prompt_ids

    def read(self, index: int, piece: Piece) -> list[Part]:
        """What became certain with the next piece of a choice; it is counted."""
        self.usage.add(len(piece.steps))
        return self.readers[index].read(piece)


async def prepare_chat(body: ChatRequest, exchange: Exchange, version: Version) -> PreparedChat:
    """Checks, renders and encodes. Raises BadRequest and its kin: everything that can be refused is refused here."""
    serving, tokenizer = exchange.serving, version.tokenizer
    shape = chat_shape(body)
    longest = serving.max_context(version)
    ids = await exchange.in_thread(lambda: chat_ids(body, tokenizer, opens_turn(body), longest))
    constraint = await constraint_of(body, tokenizer, exchange.in_thread)
    choices = held(plan(body, shape, [ids], version, serving), constraint)
    return PreparedChat(choices, [Reader() for _ in choices], exchange.usage_of(choices))
