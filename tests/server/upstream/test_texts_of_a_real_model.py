"""One real server asked by ids, by texts and by chats: the same lists, as far as texts name their tokens."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.decoding.constraints.constraint import Constraint
from deltaserve.server.decoding.decoder import decode
from deltaserve.server.decoding.drafting.upstream import UpstreamSource
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.protocols import DraftParams, Proposal
from deltaserve.server.grammars.json_schema import json_grammar
from deltaserve.server.grammars.texts import choice_grammar, regex_grammar, text_grammar
from deltaserve.server.upstream.base import Dialect
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.probing.connect import connect
from tests.support.blackbox import BlackBoxProcess, blackbox, make_model
from tests.support.grammars import takes
from tests.support.toy import ToySession, toy_stream

pytestmark = pytest.mark.anyio

K = 10
GRAMMARS = [
    json_grammar(
        {
            "type": "object",
            "properties": {"town": {"enum": ["old", "north of"]}, "n": {"type": "integer"}, "ok": {"type": "boolean"}},
            "required": ["town", "ok"],
            "additionalProperties": False,
        }
    ).text,
    json_grammar({"type": "array", "items": {"type": "string", "maxLength": 8}, "maxItems": 3}).text,
    choice_grammar(["the old mill", "the old town", "naïve café"]),
    regex_grammar("[a-c]{2,4}(x|[0-9]+)"),
    text_grammar('root ::= ("a" | "b")+ "." '),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("texts") / "model")


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[BlackBoxProcess]:
    with blackbox(model) as process:
        yield process


@pytest.mark.parametrize("dialect", ["chat", "openai"])
async def test_what_texts_name_is_what_ids_name(server: BlackBoxProcess, model: Path, dialect: Dialect) -> None:
    tokenizer = Tokenizer.load(model)
    by_ids = await connect(server.url, tokenizer=tokenizer, dialect="vllm", k=2 * K)
    by_text = await connect(server.url, tokenizer=tokenizer, dialect=dialect, k=K)
    chat = tokenizer.render_chat([{"role": "user", "content": "Who wrote the book?"}])
    named = 0
    for begun in ("", "The river", "She was born in a", "import os, sys;"):
        prefix = tokenizer.encode(chat) + tokenizer.encode(begun)
        whole, told = await listed(by_ids, prefix), await listed(by_text, prefix)
        known = dict(zip(whole.top_ids.tolist(), whole.top_logprobs.tolist(), strict=True))
        np.testing.assert_allclose(told.top_logprobs, [known[i] for i in told.top_ids.tolist()], atol=1e-4)
        cap = told.log_cap if told.log_cap is not None else float(told.top_logprobs[-1])
        assert all(value <= cap + 1e-4 for i, value in known.items() if i not in told.top_ids)
        named += told.top_ids.size
    assert named > 2 * K
    await by_ids.aclose()
    await by_text.aclose()


async def listed(box: CompletionsBox, prefix: list[int]) -> Proposal:
    async with box.draft(prefix, DraftParams(0.0, 1)) as draft:
        return await anext(aiter(draft))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_under_every_grammar_it_allows_what_we_allow_and_says_the_answer_in_one_call(
    server: BlackBoxProcess, model: Path, temperature: float
) -> None:
    tokenizer = Tokenizer.load(model)
    box = await connect(server.url, tokenizer=tokenizer, k=K)
    facts = box.capabilities
    assert facts.holds_forms and facts.same_forms and facts.list_masked and len(facts.end_ids) == 1
    prompt, size = tokenizer.encode("The river"), tokenizer.vocab_size
    for grammar in GRAMMARS:
        params = SamplingParams(
            max_tokens=60, temperature=temperature, eos_ids=frozenset(facts.end_ids), constraint=Constraint(grammar)
        )
        compiled = await tokenizer.grammars.grammar(params.constraint)
        session = ToySession(size=size, strength=0.0)
        stream = toy_stream(params, session=session, prompt=prompt, grammar=compiled)
        steps = [step async for step in decode(stream, UpstreamSource(box, forms=True))]
        assert stream.stats.upstream_calls == 1 or temperature  # a draw outside the list may be replaced
        assert not stream.without_form  # no list was unlike what we allow
        if stream.finish_reason == "stop":
            ids = [step.token_id for step in steps if step.token_id not in params.eos_ids]
            assert takes(grammar, tokenizer.decode(ids))
    await box.aclose()
