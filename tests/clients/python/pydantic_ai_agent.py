"""pydantic-ai: an agent that answers with text, whole and streamed."""

from checks import DEMO, QUESTION, Client, raised
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

library = Client("pydantic-ai", "pydantic-ai-slim")


def model_of(server, key=None, name=None):
    return OpenAIChatModel(name or server.model, provider=OpenAIProvider(base_url=server.v1, api_key=key or server.key))


agent = Agent(model_of(DEMO), instructions="Answer shortly.", model_settings={"temperature": 0, "max_tokens": 48})
WHOLE = agent.run_sync(QUESTION)


@library.check("Agent.run_sync")
def whole():
    assert WHOLE.output and WHOLE.usage.output_tokens > 0
    return f"{WHOLE.output!r}, usage"


@library.check("Agent.run_stream")
async def streamed():
    async with agent.run_stream(QUESTION) as result:
        pieces = [piece async for piece in result.stream_text(delta=True)]
    assert "".join(pieces) == WHOLE.output
    return "pieces join to the whole"


@library.check("Agent.run_sync", "message_history")
def conversation():
    second = agent.run_sync("And who else?", message_history=WHOLE.all_messages())
    assert second.output and len(second.all_messages()) == 4
    return f"{second.output!r}"


@library.check("errors", "a wrong key; a model that is not there")
def refused():
    wrong = raised(ModelHTTPError, lambda: Agent(model_of(DEMO, key="wrong")).run_sync(QUESTION))
    missing = raised(ModelHTTPError, lambda: Agent(model_of(DEMO, name="gpt-9")).run_sync(QUESTION))
    assert (wrong.status_code, missing.status_code) == (401, 404)
    return "ModelHTTPError 401, 404"


library.end()
