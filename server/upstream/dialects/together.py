"""Together's completions: text in, the drawn token by its id, alternatives by their text.

A streamed chunk has the drawn token beside the choices; the choice's `logprobs` is one number there, and its
`top_logprobs` one map of texts. An answer in one piece has OpenAI's columns.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

from deltaserve.errors import MalformedTopK
from deltaserve.server.decoding.protocols import DraftParams
from deltaserve.server.upstream.call_draft import Reader
from deltaserve.server.upstream.dialects.completions import Temperatures
from deltaserve.server.upstream.dialects.text_box import TextBox
from deltaserve.server.upstream.text.lists import Entry, Told

_ENDS = {"eos": "stop"}


class Together(TextBox):
    """`/v1/completions` with a text as its prompt."""

    temperatures = Temperatures(highest=1.0)
    takes_ids: ClassVar[bool] = False

    def request(self, token_ids: list[int], temperature: float, params: DraftParams) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._capabilities.model,
            "prompt": self.worded(token_ids),
            "max_tokens": params.max_tokens,
            "temperature": temperature,
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "n": 1,
            "stop": [],
            "logprobs": self._rules.k,
            "stream": True,
        }
        if params.seed is not None:
            body["seed"] = params.seed
        return body

    def reader(self) -> Reader:
        return _as_completion

    def told(self, choice: dict[str, Any]) -> Iterator[Told]:
        token, table = choice["logprobs"]["token"], choice["logprobs"]["table"]
        if type(token["id"]) is not int:
            raise MalformedTopK("The upstream does not name the token that it drew by its id.")
        drawn = Entry(token["text"], token.get("logprob"), token_id=token["id"])
        yield Told(drawn, [Entry(text, value) for text, value in table.items()], is_map=True)


def _as_completion(event: Any) -> Any:
    """A streamed chunk in the shape of completions, its token and list in `logprobs`."""
    if not isinstance(event, dict) or "choices" not in event or event.get("error"):
        return event
    return event | {"choices": [choice for each in event["choices"] if (choice := _choice(event, each)) is not None]}


def _choice(event: dict[str, Any], told: dict[str, Any]) -> dict[str, Any] | None:
    token, table = event.get("token"), told.get("top_logprobs")
    reason = told.get("finish_reason") or event.get("finish_reason")
    text = told.get("text") or (told.get("delta") or {}).get("content") or ""
    listed = isinstance(token, dict) and isinstance(table, dict)
    if not (listed or text or reason):
        return None
    return {
        "index": told.get("index", 0),
        "text": text,
        "logprobs": {"token": token, "table": table} if listed else None,
        "finish_reason": _ENDS.get(reason or "", reason),
    }
