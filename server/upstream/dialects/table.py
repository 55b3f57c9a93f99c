"""The dialects by their names."""

from collections.abc import Mapping
from typing import Final

from deltaserve.server.upstream.base import Capabilities, Dialect, TokenizerView
from deltaserve.server.upstream.dialects.chat import Chat
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.dialects.deepseek import DeepSeek
from deltaserve.server.upstream.dialects.fireworks import Fireworks
from deltaserve.server.upstream.dialects.llamacpp import LlamaCpp
from deltaserve.server.upstream.dialects.ollama import Ollama
from deltaserve.server.upstream.dialects.openai import OpenAI
from deltaserve.server.upstream.dialects.openrouter import OpenRouter
from deltaserve.server.upstream.dialects.sglang import SGLang
from deltaserve.server.upstream.dialects.together import Together
from deltaserve.server.upstream.dialects.vllm import Vllm
from deltaserve.server.upstream.http.transport import Transport

KINDS: Final[Mapping[Dialect, type[CompletionsBox]]] = {
    "vllm": Vllm,
    "llamacpp": LlamaCpp,
    "openai": OpenAI,
    "sglang": SGLang,
    "fireworks": Fireworks,
    "together": Together,
    "ollama": Ollama,
    "chat": Chat,
    "deepseek": DeepSeek,
    "openrouter": OpenRouter,
}


def box_of(
    transport: Transport, tokenizer: TokenizerView, facts: Capabilities, *, cache_salt: str | None = None
) -> CompletionsBox:
    """A black box that is spoken to in the dialect of `facts`."""
    kind = KINDS[facts.dialect]
    if kind is Vllm:
        return Vllm(transport, tokenizer, facts, cache_salt=cache_salt)
    return kind(transport, tokenizer, facts)
