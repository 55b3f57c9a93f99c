"""The calls a server understands, as values: what to send, and how to read what comes back. Nothing is sent here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Generic, Literal, TypeVar

from deltaserve.client.results import Answer, Health, ModelCard, ScoredPrompt, TokenizerInfo, Tokens

T = TypeVar("T")
Message = Mapping[str, str]  # role, content
Ending = Literal["opened", "begun", "closed"]  # a chat's: up to the answer, within the last message, behind it
ENDINGS: Final[Mapping[Ending, Mapping[str, bool]]] = MappingProxyType(
    {
        "opened": {},
        "begun": {"add_generation_prompt": False, "continue_final_message": True},
        "closed": {"add_generation_prompt": False},
    }
)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """`accepts`: the statuses whose body is an answer."""

    method: str
    path: str
    read: Callable[[Any], T]
    body: Mapping[str, Any] | None = None
    accepts: frozenset[int] = field(default=frozenset({200}))
    headers: Mapping[str, str] = field(default_factory=dict)  # beside the client's own


@dataclass(frozen=True, slots=True)
class Generation:
    """How to generate; None leaves a choice to the server."""

    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None

    def body(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


GREEDY = Generation(temperature=0.0)


def health() -> Call[Health]:
    """503 tells why not."""
    return Call("GET", "/health/ready", Health.read, accepts=frozenset({200, 503}))


def version() -> Call[str]:
    return Call("GET", "/version", lambda body: str(body["version"]))


def models() -> Call[list[ModelCard]]:
    return Call("GET", "/v1/models", lambda body: [ModelCard.read(card) for card in body["data"]])


def tokenize(
    prompt: str | Sequence[Message],
    model: str | None = None,
    add_special_tokens: bool | None = None,
    ending: Ending = "opened",
) -> Call[Tokens]:
    """Of a text, or of a chat as the server's template renders it."""
    what = {"prompt": prompt} if isinstance(prompt, str) else {"messages": list(prompt), **ENDINGS[ending]}
    return Call("POST", "/tokenize", Tokens.read, _given(model=model, add_special_tokens=add_special_tokens, **what))


def detokenize(ids: Sequence[int], model: str | None = None) -> Call[str]:
    body = _given(model=model, tokens=list(ids))
    return Call("POST", "/detokenize", lambda answer: str(answer["prompt"]), body)


def tokenizer_info() -> Call[TokenizerInfo]:
    return Call("GET", "/tokenizer_info", TokenizerInfo.read)


def score(prompts: Sequence[Sequence[int]], logprobs: int, model: str | None = None) -> Call[list[ScoredPrompt]]:
    """Log-probabilities of prompts' own tokens, each with the `logprobs` most probable ones; nothing is generated."""
    body = _given(
        model=model,
        prompt=[list(ids) for ids in prompts],
        echo=True,
        logprobs=logprobs,
        max_tokens=0,
        temperature=0.0,
        return_tokens_as_token_ids=True,  # two ids may share a text; by text one of them would be lost
    )
    return Call("POST", "/v1/completions", lambda answer: _scored(answer, prompts), body)


def completion(prompt: str | Sequence[int], how: Generation) -> Call[Answer]:
    text_or_ids = prompt if isinstance(prompt, str) else list(prompt)
    return Call("POST", "/v1/completions", Answer.read, {"prompt": text_or_ids, **how.body()})


def chat(messages: Sequence[Message], how: Generation, ending: Ending = "opened") -> Call[Answer]:
    """`begun`: the last message is the assistant's, and is gone on with."""
    body = {"messages": list(messages), **ENDINGS[ending], **how.body()}
    return Call("POST", "/v1/chat/completions", Answer.read, body)


def streamed(call: Call[Answer]) -> Call[Answer]:
    """The same call, answered in pieces."""
    return replace(call, body={**(call.body or {}), "stream": True})


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _scored(answer: Any, prompts: Sequence[Sequence[int]]) -> list[ScoredPrompt]:
    """In the prompts' order. Raises ValueError unless every token of every prompt was scored."""
    choices = sorted(answer["choices"], key=lambda choice: int(choice["index"]))
    return [ScoredPrompt.read(choice["logprobs"], len(ids)) for choice, ids in zip(choices, prompts, strict=True)]
