"""What a chat's answers are held to: a form that is asked for, calls of tools, or either of them; behind reasoning."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from deltaserve.errors import UnsupportedParameter
from deltaserve.server.answers.thinking import Start
from deltaserve.server.answers.tools.grammars.bounds import refuse_large
from deltaserve.server.answers.tools.holding import held
from deltaserve.server.answers.tools.protocol import ToolFormat
from deltaserve.server.api.chat.reading import Reading
from deltaserve.server.api.replies.exchange import Exchange
from deltaserve.server.api.requests.schema import ChatRequest
from deltaserve.server.api.requests.structured import constraint_of
from deltaserve.server.api.requests.tools import Calling
from deltaserve.server.decoding.constraints.constraint import Constraint
from deltaserve.server.serving.ports import Tokenizer


async def chat_constraint(
    body: ChatRequest, reading: Reading, start: Start, tokenizer: Tokenizer, exchange: Exchange
) -> Constraint | None:
    """None: answers are free. Its grammar is compiled. Raises BadRequest."""
    form = await constraint_of(body, tokenizer, exchange.beside)
    calls = await _calls(reading, form, tokenizer, exchange)
    constraint = form if calls is None else calls
    return None if constraint is None else _behind_reasoning(constraint, reading, start)


async def _calls(
    reading: Reading, form: Constraint | None, tokenizer: Tokenizer, exchange: Exchange
) -> Constraint | None:
    """Where tools must be called nothing else is said; where they may be, something else may have a form."""
    if reading.tools is None:
        return None
    written = partial(_grammar, reading.tools, reading.calling, reading.special, form)
    grammar = await exchange.beside(written)
    if grammar is None:
        return None
    await tokenizer.grammars.check(grammar, "tools" if reading.calling.tools else None)
    return Constraint(grammar)


def _grammar(tools: ToolFormat, calling: Calling, special: Mapping[str, int], form: Constraint | None) -> str | None:
    """None: nothing but the form is kept. Work for a thread where schemas are long. Raises BadRequest."""
    refuse_large(calling.tools)
    if form is not None and not calling.forced:
        return held(form.grammar, tools, calling.tools, calling.parallel, special)
    return tools.grammar(calling.tools, calling.choice, calling.parallel, special)


def _behind_reasoning(constraint: Constraint, reading: Reading, start: Start) -> Constraint:
    """Reasoning is free: the constraint begins behind its end mark."""
    thinking = reading.thinking
    if thinking is None or start is Start.ANSWER:
        return constraint
    begin, end = (reading.special.get(mark) for mark in thinking.markers)
    if start is Start.FREE and (begin is None or end is None):
        return constraint  # where the marks are no tokens, an answer that has a form has no reasoning
    if end is None:
        raise UnsupportedParameter(
            f"An answer of this form cannot follow reasoning: {thinking.end} is no token of this model, so that its "
            "place is not certain. Turn thinking off (`reasoning_effort` 'none').",
            param="reasoning_effort",
        )
    return replace(constraint, after=(end,), opens=begin if start is Start.FREE else None)
