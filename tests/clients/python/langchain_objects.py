"""langchain-openai: objects, tools, reasoning and the responses route."""

from typing import Literal

from checks import DEMO, QUESTION, SPEAKING, Client
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

library = Client("langchain-openai", "langchain-openai")
demo = ChatOpenAI(base_url=DEMO.v1, api_key=DEMO.key, model=DEMO.model, temperature=0, max_completion_tokens=96)
speaking = ChatOpenAI(base_url=SPEAKING.v1, api_key=SPEAKING.key, model=SPEAKING.model, temperature=0)


class Entry(BaseModel):
    """An entry of the register."""

    kind: Literal["person", "place", "book"]
    sure: bool


class Person(BaseModel):
    """A person."""

    name: str
    age: int


@tool
def weather(city: Literal["Oslo", "Rome"]) -> str:
    """The weather in a city."""
    return f"21 degrees in {city}"


@library.check("with_structured_output", 'method="json_schema"')
def by_schema():
    entry = demo.with_structured_output(Entry, method="json_schema").invoke(QUESTION)
    assert isinstance(entry, Entry)
    return f"Entry({entry})"


@library.check("with_structured_output", 'method="function_calling", the stand-in')
def by_function():
    person = speaking.with_structured_output(Person, method="function_calling").invoke("Which person?")
    assert person == Person(name="Ada", age=36)
    return f"Person({person})"


@library.check("with_structured_output", 'method="json_mode", the stand-in')
def by_mode():
    person = speaking.with_structured_output(Person, method="json_mode").invoke("Which person, in JSON?")
    assert person == Person(name="Ada", age=36)
    return f"Person({person})"


@library.check("bind_tools", "invoke; the tool's result is sent back")
def tools():
    model = speaking.bind_tools([weather])
    question = HumanMessage("What is the weather?")
    call = model.invoke([question])
    ((made,), result) = call.tool_calls, weather.invoke(call.tool_calls[0])
    assert (made["name"], made["args"]) == ("weather", {"city": "Oslo"}) and isinstance(result, ToolMessage)
    text = model.invoke([question, call, result]).content
    assert text == "It is 21 degrees there."
    return f"tool_calls weather(city='Oslo'), then {text!r}"


@library.check("bind_tools", "stream")
def streamed_tools():
    chunks = list(speaking.bind_tools([weather]).stream("What is the weather?"))
    joined = chunks[0]
    for chunk in chunks[1:]:
        joined += chunk
    assert [call["args"] for call in joined.tool_calls] == [{"city": "Oslo"}]
    return "tool_call_chunks join to the call"


@library.check("bind_tools", 'tool_choice="weather" where the model would not call')
def forced():
    (call,) = speaking.bind_tools([weather], tool_choice="weather").invoke("Who are you?").tool_calls
    assert call["args"]["city"] in ("Oslo", "Rome")
    return "a call that fits its schema"


@library.check("ChatOpenAI(use_responses_api=True).invoke, stream")
def responses():
    model = ChatOpenAI(
        base_url=DEMO.v1, api_key=DEMO.key, model=DEMO.model, temperature=0, use_responses_api=True, store=False
    )
    whole = model.invoke(QUESTION)
    pieces = [chunk.text for chunk in model.stream(QUESTION)]
    assert whole.text == "".join(pieces) == demo.invoke(QUESTION).content
    return "the chat route's own text, whole and streamed"


library.end()
