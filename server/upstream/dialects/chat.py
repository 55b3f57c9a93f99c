"""Chats whose answer goes on behind its beginning: `/v1/chat/completions` of vLLM and SGLang, behind whatever gateway.

Without ids in either direction this is what is left of them. The beginning of the answer is the last message.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

from deltaserve.errors import UncorrectableUpstream, UpstreamRefused
from deltaserve.server.decoding.protocols import DraftParams
from deltaserve.server.upstream.call_draft import Reader
from deltaserve.server.upstream.dialects.completions import Temperatures
from deltaserve.server.upstream.dialects.text_box import TextBox, chat_shaped
from deltaserve.server.upstream.text.chats import Chat as Conversation
from deltaserve.server.upstream.text.chats import ChatText, ChatTokenizer
from deltaserve.server.upstream.text.lists import Told
from deltaserve.server.upstream.text.prefixes import Wording

THINKS: Final = "The upstream answers with a chain of thought, which cannot be corrected: switch its thinking off."


class WithoutTemplate(UncorrectableUpstream):
    """No prompt can be made a chat."""


class Chat(TextBox):
    """One more alternative than k is asked for: vLLM counts the drawn token among them, and lists one fewer then."""

    path: ClassVar[str] = "/v1/chat/completions"
    temperatures = Temperatures(highest=2.0)
    takes_ids: ClassVar[bool] = False
    takes_chats: ClassVar[bool] = True
    spare: ClassVar[int] = 1
    # Servers that are not OpenAI's fill what is left out from the model's own recommendations.
    neutral: ClassVar[Mapping[str, Any]] = {"n": 1, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
    going_on: ClassVar[Mapping[str, Any]] = {"continue_final_message": True, "add_generation_prompt": False}
    prefixed: ClassVar[Mapping[str, Any]] = {}  # fields of the last message, where the answer has begun
    seeds: ClassVar[bool] = True

    def wording(self) -> Wording:
        tokenizer: Any = self._tokenizer
        if not hasattr(tokenizer, "render_chat"):
            raise WithoutTemplate("This upstream takes chats only, and the pair's tokenizer has no chat template.")
        template: ChatTokenizer = tokenizer
        return ChatText(template)

    def request(self, token_ids: list[int], temperature: float, params: DraftParams) -> dict[str, Any]:
        chat: Conversation = self.worded(token_ids)
        messages: list[dict[str, Any]] = [*chat.messages]
        if chat.begun:
            messages.append({"role": "assistant", "content": chat.begun, **self.prefixed})
        body: dict[str, Any] = {
            "model": self._capabilities.model,
            "messages": messages,
            "max_tokens": params.max_tokens,
            "temperature": temperature,
            "top_p": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "logprobs": True,
            "top_logprobs": self._rules.k + self.spare,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.neutral,
            **(self.going_on if chat.begun else {}),
        }
        if params.seed is not None and self.seeds:
            body["seed"] = params.seed
        return body

    def reader(self) -> Reader:
        return as_completion

    def told(self, choice: dict[str, Any]) -> Iterator[Told]:
        return chat_shaped(choice["logprobs"])


def as_completion(event: Any) -> Any:
    """A chunk, or a whole answer, of a chat in the shape of completions. Raises UpstreamRefused for other channels."""
    if not isinstance(event, dict) or "choices" not in event or event.get("error"):
        return event
    return event | {"choices": [choice for each in event["choices"] if (choice := _choice(each)) is not None]}


def _choice(told: dict[str, Any]) -> dict[str, Any] | None:
    """None where it says nothing: the first chunk only names the role."""
    said = told.get("delta") or told.get("message") or {}
    if said.get("reasoning_content") or said.get("reasoning"):
        raise UpstreamRefused(THINKS)
    if said.get("tool_calls"):
        raise UpstreamRefused("The upstream answers with a tool call, of which it lists nothing.")
    logprobs, text, reason = told.get("logprobs"), said.get("content") or "", told.get("finish_reason")
    if logprobs is not None and not logprobs.get("content"):
        logprobs = None
    if not (logprobs or text or reason):
        return None
    return {"index": told.get("index", 0), "text": text, "logprobs": logprobs, "finish_reason": reason}
