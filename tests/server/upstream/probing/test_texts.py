"""The probe before black boxes of text: what they put before a text, what they read, who they are, what is stripped."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from deltaserve.errors import UncorrectableUpstream
from deltaserve.server.decoding.protocols import DraftParams
from deltaserve.server.upstream.base import Capabilities
from deltaserve.server.upstream.http.transport import Limits, Timeouts
from deltaserve.server.upstream.probing.connect import connect
from tests.server.upstream.conformance.rows import require_exact
from tests.support.replay import Replay, Request, json_reply, replaying
from tests.support.standins.base import Asked, Position, StandIn
from tests.support.standins.chat import Chat, DeepSeek, OpenRouter
from tests.support.standins.ollama import Ollama
from tests.support.standins.openai import OpenAI
from tests.support.standins.oracle import END, PROMPT, SIZE, TOKENIZER, OracleTokenizer, logprobs
from tests.support.standins.together import Together

pytestmark = pytest.mark.anyio

NOTE = SIZE - 1
HOW: dict[str, Any] = {"timeouts": Timeouts(first_token_s=5.0), "limits": Limits(attempts=1), "k": 5}


async def probed(
    server: Callable[[Request], Any], tokenizer: Any = TOKENIZER, **how: Any
) -> tuple[Capabilities, Replay]:
    async with replaying(server) as replay:
        box = await connect(replay.url, tokenizer=tokenizer, **(HOW | how))
        await box.aclose()
    return box.capabilities, replay


async def refusal(server: Callable[[Request], Any], tokenizer: Any = TOKENIZER, **how: Any) -> str:
    with pytest.raises(UncorrectableUpstream) as caught:
        await probed(server, tokenizer, **how)
    return caught.value.message


class Beginning(OracleTokenizer):
    """A pair that puts a token before every text."""

    def encode(self, text: str, add_special: bool = False) -> list[int]:
        return [*([NOTE] if add_special else []), *super().encode(text)]


@dataclass
class BeginsTexts(Together):
    """It puts a token before every prompt by itself."""

    def asked(self, body: dict[str, Any]) -> Any:
        asked = super().asked(body)
        return Asked([NOTE, *asked.prefix], *_rest(asked)) if isinstance(asked, Asked) else asked


@dataclass
class ReadsNoSpecials(Together):
    """The text of a special token is text to it."""

    def asked(self, body: dict[str, Any]) -> Any:
        asked = super().asked(body)
        return Asked(list(body["prompt"].encode()), *_rest(asked)) if isinstance(asked, Asked) else asked


def _rest(asked: Asked) -> Sequence[Any]:
    return asked.k, asked.temperature, asked.max_tokens, asked.stream, asked.forced


@pytest.mark.parametrize(
    ("server", "dialect", "name"),
    [
        (Together(), "together", "Together"),
        (Ollama(), "ollama", "Ollama 0.34.4"),
        (DeepSeek(), "deepseek", "DeepSeek"),
        (OpenRouter(), "openrouter", "OpenRouter"),
        (Chat(), "chat", "LiteLLM"),
        (OpenAI(takes_ids=False), "openai", "system"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_each_is_recognised_and_measured(server: StandIn, dialect: str, name: str) -> None:
    facts, _ = await probed(server, provider="mine/fp8" if dialect == "openrouter" else None)
    assert (facts.dialect, facts.server, facts.model) == (dialect, name, "tiny")
    assert not facts.ids_in and not facts.ids_out and facts.raw_logprobs and facts.steps
    assert not (facts.prompt_list or facts.echo or facts.prompt_logprobs or facts.generate)


@dataclass
class BiasInLists(Chat):
    """As SGLang, also where it returns the original log-probabilities: a bias is in what it lists."""

    def _position(self, prefix: list[int], asked: Asked, at: int) -> Position:
        position = super()._position(prefix, asked, at)
        if asked.forced is None:
            return position
        biased = logprobs(prefix) + np.where(np.arange(SIZE) == asked.forced, 100.0, 0.0)
        biased -= biased.max() + np.log(np.exp(biased - biased.max()).sum())
        ids = [int(i) for i in np.argsort(-biased, kind="stable")[: asked.k]]
        return Position(asked.forced, float(biased[asked.forced]), ids, [float(biased[i]) for i in ids])


@pytest.mark.parametrize(("server", "is_raw"), [(Chat, True), (BiasInLists, False)])
async def test_behind_a_prefix_that_no_text_says_no_list_is_used_that_a_bias_has_changed(
    server: type[Chat], is_raw: bool
) -> None:
    prefix = [*PROMPT, *map(ord, " the")]  # the same text is one token: its end is drawn again only where it has to be
    async with replaying(server()) as replay:
        box = await connect(replay.url, tokenizer=TOKENIZER, **HOW)
        facts = box.capabilities
        async with box.draft(prefix, DraftParams(0.0, 1)) as draft:
            (proposal,) = [each async for each in draft]
        await box.aclose()
    if proposal.top_ids.size:
        require_exact(proposal, prefix)
    assert bool(proposal.top_ids.size) is is_raw
    assert facts.raw_logprobs and facts.raw_with_bias is is_raw


@dataclass
class ModelsAtTheRoot(DeepSeek):
    def page(self, request: Request) -> Any:
        return super().page(Request("GET", "/v1/models", {}, None)) if request.path == "/models" else None


async def test_a_models_page_at_the_root_is_found() -> None:
    assert (await probed(ModelsAtTheRoot()))[0].dialect == "deepseek"


async def test_ollama_names_its_end_its_size_and_its_weights() -> None:
    facts, replay = await probed(Ollama())
    assert (facts.end_ids, facts.vocab_size) == ((END,), SIZE)
    assert {"/api/show", "/api/tags", "/api/version"} <= {request.path for request in replay.requests}
    assert (await probed(Ollama(), model="tiny"))[0].model == "tiny"


async def test_a_token_before_every_text_is_left_to_the_server_that_puts_it_there() -> None:
    async with replaying(BeginsTexts()) as replay:
        box = await connect(replay.url, tokenizer=Beginning(), **HOW)
        assert box.capabilities.begins == NOTE
        body = box.request([NOTE, *TOKENIZER.encode("He is")], 0.0, DraftParams(0.0, 1))
        await box.aclose()
    assert body["prompt"] == "He is"
    assert "puts a token before every text" in await refusal(BeginsTexts())


async def test_counts_of_a_prompt_whose_cached_part_is_counted_apart_are_put_together() -> None:
    facts, _ = await probed(Ollama(caches=True))
    assert facts.begins is None


async def test_special_tokens_that_are_read_as_text_are_never_sent() -> None:
    async with replaying(ReadsNoSpecials()) as replay:
        tokenizer = Bytes()
        box = await connect(replay.url, tokenizer=tokenizer, **HOW)
        facts = box.capabilities
        await box.aclose()
    assert not facts.reads_specials and any("plain text" in note for note in facts.notes)


class Bytes(OracleTokenizer):
    """Without words, so that its counts are those of a server that reads bytes."""

    def encode(self, text: str, add_special: bool = False) -> list[int]:
        ids: list[int] = []
        for at, part in enumerate(text.split("<|note|>")):
            ids += [*([NOTE] if at else []), *part.encode()]
        return ids


async def test_another_tokenizer_is_told_by_its_counts() -> None:
    assert "how many tokens a text has" in await refusal(Together(), Bytes())


@pytest.mark.parametrize("trap", ["continues", "trims", "system_prompt", "thinks"])
async def test_a_chat_that_is_not_the_pair_s_is_refused(trap: str) -> None:
    said = await refusal(Chat(**{trap: trap != "continues"}))
    assert ("chain of thought" if trap == "thinks" else "tokens where the pair's chat template makes") in said


async def test_lists_that_hold_one_certain_token_are_no_probabilities() -> None:
    assert "no log-probabilities of its model" in await refusal(DeepSeek(certain=True))


async def test_openrouter_needs_a_provider() -> None:
    assert "--upstream-provider" in await refusal(OpenRouter())


@dataclass
class Strips(OpenAI):
    """vLLM behind a gateway that drops fields it does not know: what comes back has texts alone."""

    max_k: int = 20

    def page(self, request: Request) -> Any:
        if request.path == "/v1/models":
            return json_reply({"data": [{"id": "tiny", "owned_by": "vllm", "max_model_len": 512}]})
        return None

    def events(self, answer: list[Position], asked: Asked) -> list[bytes]:
        return [event.replace(b"text_offset", b"other_field") for event in super().events(answer, asked)]


async def test_a_gateway_that_strips_ids_is_seen_and_said_and_texts_are_read() -> None:
    facts, _ = await probed(Strips())
    assert facts.dialect == "openai" and any("strips them" in note for note in facts.notes)


async def test_a_dialect_that_the_operator_names_is_the_only_one() -> None:
    assert "does not name tokens by id" in await refusal(Strips(), dialect="vllm")
    assert "404" in await refusal(Chat(), dialect="openai")
    facts, _ = await probed(Chat(owner="vllm"), dialect="chat")
    assert facts.dialect == "chat" and not any("chat route" in note for note in facts.notes)


async def test_a_route_that_is_not_there_leads_to_chats_and_says_so() -> None:
    facts, _ = await probed(Chat())
    assert any("asked by its chat route" in note for note in facts.notes)
