"""instructor: objects by each of its modes that a server decides."""

from typing import Literal

import instructor
from checks import CHAT, DEMO, SPEAKING, Client, asking
from instructor import Mode
from openai import OpenAI
from pydantic import BaseModel, ConfigDict

library = Client("instructor", "instructor")
demo, speaking = (OpenAI(base_url=server.v1, api_key=server.key) for server in (DEMO, SPEAKING))


class Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")  # else the model may go on with fields of its own
    kind: Literal["person", "place", "book"]
    sure: bool


class Person(BaseModel):
    name: str
    age: int


def person(mode):
    body = {"model": SPEAKING.model, "messages": asking("Which person?"), "temperature": 0, "max_retries": 0}
    got = instructor.from_openai(speaking, mode=mode).chat.completions.create(**body, response_model=Person)
    assert isinstance(got, Person) and got.model_dump() == {"name": "Ada", "age": 36}
    return f"Person({got})"


@library.check("chat.completions.create", "Mode.JSON_SCHEMA")
def by_schema():
    body = {"model": DEMO.model, "messages": CHAT, "temperature": 0, "max_tokens": 256, "max_retries": 0}
    client = instructor.from_openai(demo, mode=Mode.JSON_SCHEMA)
    got = client.chat.completions.create(**body, response_model=Entry)
    assert isinstance(got, Entry)
    return f"Entry({got})"


@library.check("chat.completions.create", "Mode.TOOLS, the stand-in")
def by_tools():
    return person(Mode.TOOLS)


@library.check("chat.completions.create", "Mode.JSON, the stand-in")
def by_mode():
    return person(Mode.JSON)


@library.check("chat.completions.create_partial", "Mode.TOOLS, the stand-in")
def partial():
    client = instructor.from_openai(speaking, mode=Mode.TOOLS)
    body = {"model": SPEAKING.model, "messages": asking("Which person?"), "temperature": 0}
    parts = list(client.chat.completions.create_partial(**body, response_model=Person))
    assert parts[-1].model_dump() == {"name": "Ada", "age": 36} and len(parts) > 1
    return "partial objects, the last one whole"


library.end()
