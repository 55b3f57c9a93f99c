"""openai-python: answers that are an object, by a pydantic model, a schema, a choice or an expression."""

import json
import re
from typing import Literal

import openai
from checks import CHAT, DEMO, SPEAKING, Client, asking, raised
from openai import OpenAI
from pydantic import BaseModel

library = Client("openai-python", "openai")
client = OpenAI(base_url=DEMO.v1, api_key=DEMO.key)
speaking = OpenAI(base_url=SPEAKING.v1, api_key=SPEAKING.key)
GREEDY = {"model": DEMO.model, "messages": CHAT, "temperature": 0, "max_tokens": 256}
PERSON = {"model": SPEAKING.model, "messages": asking("Which person?"), "temperature": 0, "max_tokens": 128}


class Entry(BaseModel):
    """What the demo's model is made to write."""

    kind: Literal["person", "place", "book"]
    sure: bool


class Person(BaseModel):
    name: str
    age: int


ENTRY = {"type": "json_schema", "json_schema": {"name": "entry", "strict": True, "schema": {
    "type": "object", "additionalProperties": False, "required": ["kind", "grade"],
    "properties": {"kind": {"enum": ["person", "place"]}, "grade": {"type": "integer", "minimum": 1, "maximum": 5}},
}}}  # fmt: skip


@library.check("chat.completions.parse", "a pydantic model")
def parsed():
    (choice,) = client.chat.completions.parse(**GREEDY, response_format=Entry).choices
    assert isinstance(choice.message.parsed, Entry) and choice.finish_reason == "stop"
    return f"Entry({choice.message.parsed}), finish_reason stop"


@library.check("chat.completions.parse", "a pydantic model, the stand-in")
def parsed_person():
    person = speaking.chat.completions.parse(**PERSON, response_format=Person).choices[0].message.parsed
    assert person == Person(name="Ada", age=36)
    return f"Person({person})"


@library.check("chat.completions.stream", "a pydantic model")
def streamed():
    with client.chat.completions.stream(**GREEDY, response_format=Entry) as stream:
        events = list(stream)
        final = stream.get_final_completion().choices[0].message
    deltas = [event.delta for event in events if event.type == "content.delta"]
    assert "".join(deltas) == final.content and isinstance(final.parsed, Entry)
    assert final.parsed == client.chat.completions.parse(**GREEDY, response_format=Entry).choices[0].message.parsed
    return "content.delta events join; the same object as whole"


@library.check("chat.completions.create", "json_schema, strict, temperature=1, n=4, seed=1")
def sampled():
    body = {**GREEDY, "temperature": 1, "n": 4, "seed": 1, "response_format": ENTRY}
    objects = [json.loads(choice.message.content) for choice in client.chat.completions.create(**body).choices]
    assert all(o["kind"] in ("person", "place") and 1 <= o["grade"] <= 5 and len(o) == 2 for o in objects)
    return f"{len(objects)} valid objects"


@library.check("chat.completions.create", "json_object, the stand-in")
def any_object():
    (choice,) = speaking.chat.completions.create(**PERSON, response_format={"type": "json_object"}).choices
    assert json.loads(choice.message.content) == {"name": "Ada", "age": 36} and choice.finish_reason == "stop"
    return choice.message.content


@library.check("chat.completions.create", "structured_outputs: choice, regex, grammar; guided_choice, guided_regex")
def extra():
    def text(**body):
        return client.chat.completions.create(**GREEDY, extra_body=body).choices[0].message.content

    assert text(structured_outputs={"choice": ["clockmaker", "potter"]}) in ("clockmaker", "potter")
    assert re.fullmatch(r"\d{4}-\d\d", text(structured_outputs={"regex": r"\d{4}-\d\d"}))
    assert text(structured_outputs={"grammar": 'start: "yes" | "no"'}) in ("yes", "no")
    assert text(guided_choice=["clockmaker", "potter"]) in ("clockmaker", "potter")
    assert re.fullmatch("[a-f]{3}", text(guided_regex="[a-f]{3}"))
    return "one of the choices, a match, a word of the grammar"


@library.check("chat.completions.parse", "max_tokens=4")
def cut():
    raised(
        openai.LengthFinishReasonError,
        lambda: client.chat.completions.parse(**{**GREEDY, "max_tokens": 4}, response_format=Entry),
    )
    return "LengthFinishReasonError"


@library.check("errors", "a schema that no grammar is made of; no schema")
def refused():
    def ask(schema):
        form = {"type": "json_schema", "json_schema": {"name": "x", **schema}}
        return lambda: client.chat.completions.create(**GREEDY, response_format=form)

    error = raised(
        openai.BadRequestError, ask({"schema": {"type": "object", "unevaluatedProperties": {"type": "null"}}})
    )
    assert "unevaluatedProperties" in error.message
    assert raised(openai.BadRequestError, ask({})).message
    return f"BadRequestError: {error.message}"


library.end()
