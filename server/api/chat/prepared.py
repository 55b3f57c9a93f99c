"""A chat request, checked and ready to be answered: what is generated, and who reads what each choice says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from deltaserve.server.answers.choice_reader import ChoiceReader
from deltaserve.server.answers.effort import with_effort
from deltaserve.server.answers.parts import Part
from deltaserve.server.api.chat.holding import chat_constraint
from deltaserve.server.api.chat.prompt import ChatPrompt, chat_prompt, opens_turn
from deltaserve.server.api.chat.reading import Reading
from deltaserve.server.api.replies.exchange import Exchange
from deltaserve.server.api.replies.usage import Usage
from deltaserve.server.api.requests.parameters import chat_shape, plan
from deltaserve.server.api.requests.schema import ChatRequest
from deltaserve.server.api.requests.structured import held
from deltaserve.server.decoding.stream import Piece
from deltaserve.server.serving.ports import Tokenizer, Version
from deltaserve.server.serving.service import Choice


@dataclass(frozen=True, slots=True)
class PreparedChat:
    """`choices` and `readers` have one order, that of the choices' indices."""

    choices: Sequence[Choice]
    readers: Sequence[ChoiceReader]
    usage: Usage

    @property
    def prompt_ids(self) -> Sequence[int]:
        return self.choices[0].prompt_ids

    @property
    def parsed(self) -> bool:
        """Whether there may be anything but text in an answer."""
        return self.readers[0].parser is not None

    def read(self, index: int, piece: Piece) -> list[Part]:
        """What became certain with the next piece of a choice; it is counted."""
        reader = self.readers[index]
        before = reader.reasoning_tokens
        parts = reader.read(piece)
        self.usage.add(len(piece.steps), reader.reasoning_tokens - before)
        return parts


def template_arguments(body: ChatRequest, reading: Reading, tokenizer: Tokenizer) -> Mapping[str, Any] | None:
    """What the template is given beside messages and tools. Raises BadRequest, UnsupportedParameter."""
    effort, given = body.reasoning_effort, body.chat_template_kwargs
    return with_effort(effort, given, tokenizer.template_variables, thinks=reading.knows_reasoning)


async def chat_prompt_of(
    body: ChatRequest, exchange: Exchange, tokenizer: Tokenizer, longest: int, arguments: Mapping[str, Any] | None
) -> ChatPrompt:
    """In a thread where it is long. Raises BadRequest, ContextLengthExceeded."""
    tokens = exchange.serving.settings.message_special_tokens
    return await exchange.in_thread(
        lambda: chat_prompt(body, tokenizer, opens_turn(body), longest, arguments, special_tokens=tokens)
    )


async def prepare_chat(body: ChatRequest, exchange: Exchange, version: Version) -> PreparedChat:
    """Checks, renders and encodes. Raises BadRequest and its kin: everything that can be refused is refused here."""
    serving, tokenizer = exchange.serving, version.tokenizer
    shape = chat_shape(body)
    reading = Reading.of(body, tokenizer, serving.settings)
    arguments = template_arguments(body, reading, tokenizer)
    longest = serving.max_context(version)
    prompt = await chat_prompt_of(body, exchange, tokenizer, longest, arguments)
    start = reading.start(prompt)
    constraint = await chat_constraint(body, reading, start, tokenizer, exchange)
    choices = held(plan(body, shape, [prompt.ids], version, serving), constraint)
    parsers = [reading.parser(start) for _ in choices]
    if version.pair_tokenizer is not None:
        own = await chat_prompt_of(body, exchange, version.pair_tokenizer, longest, arguments)
        choices = [replace(choice, pair_prompt=own.ids) for choice in choices]
    if parsers[0] is not None:
        choices = [replace(choice, wanted=reading.wanted) for choice in choices]
    usage = exchange.usage_of(choices)
    if reading.thinks(start):
        usage.reasoning_tokens = 0
    return PreparedChat(choices, [ChoiceReader(parser) for parser in parsers], usage)
