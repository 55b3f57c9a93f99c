"""Parameters that OpenAI or vLLM know and this server does not do: refused with a sentence, never ignored."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from deltaserve.errors import UnsupportedParameter
from deltaserve.server.api.requests.naming import quoted

_CLOSE = 0.82  # difflib ratio from which an unknown name is taken for a misspelled one


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not; values in `neutral` ask for nothing and pass."""

    sentence: str
    neutral: tuple[Any, ...] = ()


_NOT_BUILT = "is not supported by this server"
_TEXT_ONLY = Refusal("is not supported: this server reads and writes text only")

COMMON: Mapping[str, Refusal] = {
    "prompt_logprobs": Refusal("is not supported; use echo with logprobs (completions)", (0, -1)),
    "logprob_token_ids": Refusal("is not supported; `logprobs` gives the most probable tokens", ([],)),
    "logits_processors": Refusal(_NOT_BUILT, ([],)),
    "use_beam_search": Refusal(_NOT_BUILT, (False,)),
    "length_penalty": Refusal(_NOT_BUILT, (1, 1.0)),
    "spaces_between_special_tokens": Refusal("must be true here: no spaces are put into a text", (True,)),
    "prompt_embeds": Refusal(_NOT_BUILT),
}

COMPLETION: Mapping[str, Refusal] = {
    "suffix": Refusal(
        "is not supported: text is continued, not filled in. Where the model knows marks for that (<|fim_prefix|> and "
        "its like), write them into `prompt`",
        ("",),
    ),
    "max_completion_tokens": Refusal("belongs to /v1/chat/completions; use max_tokens here"),
    "top_logprobs": Refusal("belongs to /v1/chat/completions; use logprobs here"),
    "messages": Refusal("belongs to /v1/chat/completions; use prompt here"),
}

CHAT: Mapping[str, Refusal] = {
    "echo": Refusal("is not supported in chat", (False,)),
    "truncate_prompt_tokens": Refusal(
        "is not supported in chat: a prompt begins with what the chat template writes; leave old messages out"
    ),
    "best_of": Refusal("is not supported in chat; use n", (1,)),
    "functions": Refusal(
        "is the old form and not supported: send each one in `tools` as {'type': 'function', 'function': {…}}", ([],)
    ),
    "function_call": Refusal("is the old form and not supported: send `tool_choice`", ("none", "auto")),
    "audio": _TEXT_ONLY,
    "modalities": Refusal(_TEXT_ONLY.sentence, (["text"],)),
    "prediction": Refusal(_NOT_BUILT),
    "verbosity": Refusal(_NOT_BUILT),
    "web_search_options": Refusal(_NOT_BUILT),
    "chat_template": Refusal("is not supported: the model's own template is used"),
    "documents": Refusal("is not supported; give what the chat template reads in chat_template_kwargs"),
}


def refuse_unsupported(data: Mapping[str, Any], table: Mapping[str, Refusal]) -> None:
    """Raises UnsupportedParameter for the first field of `data` that asks for something not built."""
    for name in data.keys() & table.keys():
        value, refusal = data[name], table[name]
        if value is not None and not any(value == ok and type(value) is type(ok) for ok in refusal.neutral):
            raise UnsupportedParameter(f"`{name}` {refusal.sentence}.", param=name)


def refuse_misspelled(data: Mapping[str, Any], known: Collection[str]) -> None:
    """Raises UnsupportedParameter for an unknown field that looks like a known one; others are ignored.

    How many fields there are was bounded when the body was read (`json_text`), how long their names are is here.
    """
    longest = max(map(len, known)) * (2 / _CLOSE - 1)  # of a longer name difflib's ratio cannot be _CLOSE
    for name in data.keys() - set(known):
        near = get_close_matches(name, known, n=1, cutoff=_CLOSE) if len(name) <= longest else []
        if near:
            raise UnsupportedParameter(f"Unknown field {quoted(name)}: did you mean `{near[0]}`?", param=name)
