"""Structured answers from a server, as unmodified clients ask for them."""

import json
from enum import Enum
from typing import Annotated, Any, Literal

import httpx2 as httpx
import jsonschema_rs
import openai
import pytest
from pydantic import BaseModel, Field

from tests.support.app import RunningApp

ASK: list[Any] = [{"role": "user", "content": "hi"}]
NO_LINES = {"9": -100, "10": -100, "13": -100}  # to this black box all bytes are alike, and greedy takes the first


class Kind(Enum):
    book = "book"
    film = "film"


class Author(BaseModel):
    name: Annotated[str, Field(max_length=2)]
    born: Annotated[int, Field(ge=1000, le=2100)] | None


class Card(BaseModel):
    kind: Kind
    language: Literal["en"]
    rating: Annotated[float, Field(ge=0, le=5, multiple_of=0.5)]
    authors: Annotated[list[Author], Field(min_length=1, max_length=1)]


class Transfer(BaseModel):
    to: Literal["bank"]
    iban: Annotated[str, Field(pattern="^[A-Z]{2}[0-9]{4}$")]


class Cash(BaseModel):
    to: Literal["hand"]
    amount: Annotated[int, Field(ge=1, le=99)]


class Payment(BaseModel):
    paid: Transfer | Cash


def asked(temperature: float) -> dict[str, Any]:
    sampling = {"temperature": temperature, "seed": 5, "max_tokens": 200, "logit_bias": NO_LINES}
    return {"model": "tiny", "messages": ASK, **sampling}


def test_openai_python_parses_a_pydantic_model(client: openai.OpenAI) -> None:
    completion = client.beta.chat.completions.parse(response_format=Card, **asked(0.0))
    assert isinstance(completion.choices[0].message.parsed, Card)


def test_openai_python_parses_a_union_whole_and_streamed(client: openai.OpenAI) -> None:
    whole = client.chat.completions.parse(response_format=Payment, **asked(1.0)).choices[0]
    assert isinstance(whole.message.parsed, Payment)
    assert whole.finish_reason == "stop"
    with client.chat.completions.stream(response_format=Payment, **asked(1.0)) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == whole.message.parsed


@pytest.mark.parametrize(
    "fields",
    [
        {"guided_choice": ["yes", "no", "perhaps"]},
        {"structured_outputs": {"regex": "[a-c]{3,5}"}},
        {"structured_outputs": {"json": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3}}},
        {"guided_grammar": 'root ::= ("ab" | "cd")+ "."'},
    ],
    ids=str,
)
def test_whole_and_streamed_answers_are_one_and_end_by_themselves(app: RunningApp, fields: dict[str, Any]) -> None:
    body = {"model": "tiny", "prompt": ["a", "b"], "n": 2, "seed": 3, "max_tokens": 64, "logprobs": 2, **fields}
    whole = httpx.post(f"{app.url}/v1/completions", json=body, timeout=30).json()["choices"]
    assert [choice["finish_reason"] for choice in whole] == ["stop"] * 4
    streamed = httpx.post(f"{app.url}/v1/completions", json={**body, "stream": True}, timeout=30).text
    texts = [""] * 4
    for frame in streamed.split("\n\n"):
        if frame.startswith("data: {"):
            for choice in json.loads(frame.removeprefix("data: "))["choices"]:
                texts[choice["index"]] += choice["text"]
    assert texts == [choice["text"] for choice in whole]


def test_log_probabilities_are_those_before_the_grammar(app: RunningApp) -> None:
    """What the grammar allows alone is certain under it; its log-probability is that of q."""
    body = {"model": "tiny", "prompt": "a", "guided_choice": ["~"], "logprobs": 0, "max_tokens": 4}
    choice = httpx.post(f"{app.url}/v1/completions", json=body, timeout=30).json()["choices"][0]
    assert choice["text"] == "~"
    assert choice["logprobs"]["token_logprobs"][0] < -3


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_schema_with_references_formats_and_bounds_holds(app: RunningApp, temperature: float) -> None:
    schema = {
        "type": "object",
        "properties": {
            "due": {"type": "string", "format": "date"},
            "sku": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{2}$"},
            "price": {"type": "number", "minimum": 0, "maximum": 99, "multipleOf": 0.01},
            "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
        },
        "required": ["due", "sku"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    body = {"messages": ASK, "response_format": form, "temperature": temperature, "seed": 1, "max_tokens": 200}
    body |= {"n": 2, "logit_bias": NO_LINES}
    choices = httpx.post(f"{app.url}/v1/chat/completions", json=body, timeout=60).json()["choices"]
    finished = [choice["message"]["content"] for choice in choices if choice["finish_reason"] == "stop"]
    assert finished
    for text in finished:
        jsonschema_rs.validate(schema, json.loads(text), validate_formats=True)
