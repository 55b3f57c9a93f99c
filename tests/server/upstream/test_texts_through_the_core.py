"""Answers from black boxes of text, decided by the core: a certified token is the best one of the whole vocabulary."""

from itertools import product

import numpy as np
import pytest

from deltaserve.errors import BlindPosition, UpstreamError, UpstreamRefused
from deltaserve.server.decoding.constraints.constraint import Constraint
from deltaserve.server.decoding.constraints.grammar import Grammar, compiled, parsing_vocabulary
from deltaserve.server.decoding.decoder import decode
from deltaserve.server.decoding.drafting.upstream import UpstreamSource
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Policy
from deltaserve.server.decoding.stream import Step, Stream
from tests.server.upstream.conformance.rows import ROWS, Row, opened
from tests.support.standins.oracle import END, SIZE, TOKENIZER, OracleTokenizer, logprobs
from tests.support.toy import ToySession, toy_logprobs, toy_stream

pytestmark = pytest.mark.anyio

TEXTS = [row for row in ROWS if not row.facts.get("ids_in", True)]
FORM = 'start: ("No" | "Oh") ", " ("a" | "the" | "is")'
FORMS = [f"{first}, {last}" for first in ("No", "Oh") for last in ("a", "the", "is")]
PROMPTS = [list(f"Who was it? {name}".encode()) for name in ("He", "She", "They", "It", "An", "Bo", "Cy", "Di")]


class OracleWords(OracleTokenizer):
    """As a grammar sees them."""

    masked_ids = ()
    joins = True


async def decided(
    row: Row, prompt: list[int], temperature: float, grammar: Grammar | None = None, **policy: object
) -> tuple[Stream, list[Step]]:
    """What is emitted until the answer ends, by whatever."""
    held = None if grammar is None else Constraint(FORM)
    params = SamplingParams(max_tokens=8, temperature=temperature, eos_ids=frozenset({END}), seed=5, constraint=held)
    session, steps = ToySession(size=SIZE, strength=0.7), []
    stream = toy_stream(
        params,
        session=session,
        prompt=prompt,
        policy=Policy(**policy),
        grammar=grammar,  # type: ignore[arg-type]
    )
    async with opened(row) as (box, _):
        try:
            async for step in decode(stream, UpstreamSource(box, forms=grammar is not None)):
                steps.append(step)  # noqa: PERF401  (what came before an error counts)
        except (BlindPosition, UpstreamRefused):
            pass  # no text says what was emitted
    return stream, steps


@pytest.mark.parametrize("row", TEXTS, ids=lambda row: row.name)
async def test_a_certified_token_is_the_best_of_the_whole_vocabulary(row: Row) -> None:
    certified, told = 0, 0
    for prompt in PROMPTS:
        stream, steps = await decided(row, prompt, 0.0)
        told += stream.stats.unnamed
        prefix = list(prompt)
        for step in steps:
            offset = toy_logprobs("unlearned", prefix, SIZE) - toy_logprobs("initial", prefix, SIZE)
            whole = logprobs(prefix) + 0.7 * offset
            if step.certified:
                certified += 1
                assert whole[step.token_id] == pytest.approx(whole.max(), abs=1e-6)
            prefix.append(step.token_id)
    assert certified > 3 and (told > 0 or row.dialect == "openai")  # else nothing was shown


@pytest.mark.parametrize("row", TEXTS, ids=lambda row: row.name)
async def test_where_the_pair_may_decide_alone_no_prefix_ends_an_answer_and_each_is_counted(row: Row) -> None:
    drifted = [*PROMPTS[0], *TOKENIZER.encode(" the")]
    drifted[-1:] = [ord(letter) for letter in " the"]  # the same text, which is read as one token
    stream, steps = await decided(row, drifted, 0.0, allow_blind=True)
    assert stream.finished and len(steps) == len(stream.ids) - len(drifted)
    assert stream.stats.bridged > 0 and stream.stats.bridged >= stream.stats.blind


@pytest.mark.parametrize("row", TEXTS, ids=lambda row: row.name)
async def test_behind_such_a_prefix_an_answer_ends_with_an_error_where_the_pair_may_not(row: Row) -> None:
    drifted = [*PROMPTS[0], *map(ord, " the")]
    params = SamplingParams(max_tokens=8, temperature=0.0)
    stream = toy_stream(params, session=ToySession(size=SIZE), prompt=drifted)
    async with opened(row) as (box, _):
        with pytest.raises(UpstreamError) as caught:
            async for _ in decode(stream, UpstreamSource(box)):
                pass
    assert isinstance(caught.value, BlindPosition | UpstreamRefused)
    assert isinstance(caught.value, UpstreamRefused) or "no text says which tokens" in caught.value.message


@pytest.fixture(scope="module")
def grammar() -> Grammar:
    return compiled(FORM, parsing_vocabulary(OracleWords()))


@pytest.mark.parametrize("row", TEXTS, ids=lambda row: row.name)
async def test_a_held_answer_keeps_to_its_form_although_the_black_box_knows_nothing_of_it(
    row: Row, grammar: Grammar
) -> None:
    ended = 0
    for prompt, temperature in product(PROMPTS[:2], (0.0, 1.0)):
        stream, steps = await decided(row, prompt, temperature, grammar)
        said = b"".join(TOKENIZER.token_bytes(step.token_id) for step in steps if step.token_id != END).decode()
        assert any(text.startswith(said) for text in FORMS)
        assert said in FORMS or stream.finish_reason != "stop"
        ended += stream.finish_reason == "stop"
    assert ended


def test_the_oracle_is_a_distribution() -> None:
    assert np.exp(logprobs(PROMPTS[0])).sum() == pytest.approx(1.0)
