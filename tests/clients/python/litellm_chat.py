"""litellm's client: completion, text_completion, and its classes of errors."""

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the network at import

import litellm
from checks import CHAT, DEMO, SPEAKING, Client, asking, raised

litellm.suppress_debug_info = True
library = Client("litellm", "litellm")
where = {"model": f"openai/{DEMO.model}", "api_base": DEMO.v1, "api_key": DEMO.key, "temperature": 0, "max_tokens": 48}
WHOLE = litellm.completion(**where, messages=CHAT)
TEXT = WHOLE.choices[0].message.content


@library.check("completion")
def whole():
    assert TEXT and WHOLE.choices[0].finish_reason == "stop"
    assert WHOLE.usage.total_tokens == WHOLE.usage.prompt_tokens + WHOLE.usage.completion_tokens
    return f"{TEXT!r}, finish_reason stop, usage adds up"


@library.check("completion", "stream, include_usage")
def streamed():
    chunks = list(litellm.completion(**where, messages=CHAT, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == TEXT
    built = litellm.stream_chunk_builder(chunks)
    assert built.choices[0].message.content == TEXT and built.usage.total_tokens == WHOLE.usage.total_tokens
    return "pieces join to the whole, stream_chunk_builder gives the same usage"


@library.check("acompletion", "n=2, seed=5, temperature=1")
async def seeded():
    body = {**where, "temperature": 1, "seed": 5, "n": 2}
    first, again = [
        [choice.message.content for choice in (await litellm.acompletion(**body, messages=CHAT)).choices]
        for _ in range(2)
    ]
    assert first == again and len(first) == 2
    return "two choices, the same ones again"


@library.check("text_completion")
def completion():
    body = {**where, "model": f"text-completion-openai/{DEMO.model}", "max_tokens": 3}
    (choice,) = litellm.text_completion(**body, prompt="Once").choices
    assert choice.text and choice.finish_reason == "length"
    return f"{choice.text!r}, finish_reason length"


@library.check("errors", "a wrong key; a model that is not there; temperature=9; every place taken")
def refused():
    def call(**changes):
        return litellm.completion(**{**where, "messages": CHAT, "max_retries": 0, **changes})

    raised(litellm.AuthenticationError, lambda: call(api_key="wrong"))
    raised(litellm.NotFoundError, lambda: call(model="openai/gpt-9"))
    raised(litellm.BadRequestError, lambda: call(temperature=9))
    few = {"api_base": SPEAKING.v1, "model": f"openai/{SPEAKING.model}", "max_tokens": 200}
    held = [iter(call(**few, messages=asking("Wait for me."), stream=True)) for _ in range(2)]
    assert all(next(stream) for stream in held)
    raised(litellm.RateLimitError, lambda: call(**few))
    return "AuthenticationError, NotFoundError, BadRequestError, RateLimitError"


library.end()
