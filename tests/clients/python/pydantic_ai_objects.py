"""pydantic-ai: agents whose output is an object, agents with tools, and the responses route."""

from typing import Literal

from checks import DEMO, QUESTION, SPEAKING, Client
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.messages import ThinkingPart
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

library = Client("pydantic-ai", "pydantic-ai-slim")


def provider(server):
    return OpenAIProvider(base_url=server.v1, api_key=server.key)


demo = OpenAIChatModel(DEMO.model, provider=provider(DEMO))
speaking = OpenAIChatModel(SPEAKING.model, provider=provider(SPEAKING))
GREEDY = {"temperature": 0, "max_tokens": 200}


class Entry(BaseModel):
    kind: Literal["person", "place", "book"]
    sure: bool


class Person(BaseModel):
    name: str
    age: int


@library.check("Agent(output_type=NativeOutput(…)).run_sync")
def native():
    output = Agent(demo, output_type=NativeOutput(Entry), model_settings=GREEDY).run_sync(QUESTION).output
    assert isinstance(output, Entry)
    return f"Entry({output})"


@library.check("Agent(output_type=…).run_sync", "by a tool that must be called, the stand-in")
def by_tool():
    output = Agent(speaking, output_type=Person, model_settings=GREEDY).run_sync("Which person?").output
    assert output == Person(name="Ada", age=36)
    return f"Person({output})"


@library.check("Agent(output_type=…).run_stream", "the stand-in")
async def streamed():
    async with Agent(speaking, output_type=Person, model_settings=GREEDY).run_stream("Which person?") as result:
        partial = [output async for output in result.stream_output(debounce_by=None)]
    assert partial[-1] == Person(name="Ada", age=36)
    return "partial objects, the last one whole"


def asked_weather(model):
    agent, asked = Agent(model, model_settings=GREEDY), []

    @agent.tool_plain
    def weather(city: Literal["Oslo", "Rome"]) -> str:
        """The weather in a city."""
        asked.append(city)
        return "21 degrees"

    output = agent.run_sync("What is the weather?").output
    assert output == "It is 21 degrees there." and asked == ["Oslo"]
    return f"the tool ran, then {output!r}"


@library.check("Agent.tool_plain, run_sync")
def tools():
    return asked_weather(speaking)


@library.check("Agent.run_sync", "an answer with a thought")
def reasoning():
    result = Agent(speaking, model_settings=GREEDY).run_sync("Please think.")
    thoughts = [part for m in result.all_messages() for part in m.parts if isinstance(part, ThinkingPart)]
    assert "fingers" in thoughts[0].content and result.output.strip() == "It is four."
    return "a ThinkingPart, then the text"


@library.check("OpenAIResponsesModel", "run_sync, with a tool")
def responses():
    settings = {"openai_store": False}
    text = Agent(OpenAIResponsesModel(DEMO.model, provider=provider(DEMO), settings=settings), model_settings=GREEDY)
    assert text.run_sync(QUESTION).output == Agent(demo, model_settings=GREEDY).run_sync(QUESTION).output
    return asked_weather(OpenAIResponsesModel(SPEAKING.model, provider=provider(SPEAKING), settings=settings))


library.end()
