"""What hosted APIs, routers and Ollama say of themselves on their pages."""

from dataclasses import dataclass
from typing import Any, Final

from deltaserve.errors import UpstreamRefused
from deltaserve.server.upstream.base import Dialect
from deltaserve.server.upstream.http.transport import Transport

_LITELLM_CREATED: Final = 1677610602  # of every model on LiteLLM's page


def hosted_api(card: dict[str, Any]) -> Dialect | None:
    """Whose model page this card is from; None where it may be any server's."""
    if card.get("owned_by") == "deepseek":
        return "deepseek"
    if card.get("owned_by") == "fireworks" or str(card.get("id")).startswith("accounts/fireworks/"):
        return "fireworks"
    if {"supported_parameters", "top_provider"} <= card.keys():
        return "openrouter"
    if {"organization", "pricing", "type"} <= card.keys():
        return "together"
    return None


def router_named(card: dict[str, Any]) -> str | None:
    """The name of a router or a hosted API, where its card shows it."""
    known: dict[Dialect | None, str] = {
        "deepseek": "DeepSeek",
        "fireworks": "Fireworks",
        "openrouter": "OpenRouter",
        "together": "Together",
    }
    if card.get("owned_by") == "openai" and card.get("created") == _LITELLM_CREATED:
        return "LiteLLM"
    return known.get(hosted_api(card))


async def is_ollama(transport: Transport, owner: str) -> bool:
    """Whether it has Ollama's page, and is none that copies it."""
    if owner in ("vllm", "sglang", "llamacpp"):
        return False
    return "version" in await page_of(transport, "/api/version") and not await page_of(transport, "/version")


@dataclass(frozen=True, slots=True)
class OllamaModel:
    """What Ollama tells of one model; None where it does not."""

    version: str | None
    digest: str | None
    vocab_size: int | None
    end_id: int | None


async def ollama_model(transport: Transport, model: str) -> OllamaModel:
    """From its pages."""
    version, tags = await page_of(transport, "/api/version"), await page_of(transport, "/api/tags")
    known = [card for card in tags.get("models") or [] if isinstance(card, dict) and card.get("name") == model]
    try:
        shown = await transport.post_json("/api/show", {"model": model})
    except UpstreamRefused:
        shown = {}
    told = shown.get("model_info") if isinstance(shown, dict) else None
    facts = told if isinstance(told, dict) else {}
    sizes = [value for name, value in facts.items() if name.endswith(".vocab_size") and type(value) is int]
    end = facts.get("tokenizer.ggml.eos_token_id")
    return OllamaModel(
        str(version["version"]) if "version" in version else None,
        str(known[0]["digest"]) if known and "digest" in known[0] else None,
        sizes[0] if sizes else None,
        end if type(end) is int else None,
    )


async def page_of(transport: Transport, path: str) -> dict[str, Any]:
    """What a server shows there; nothing where it has no such page."""
    try:
        page = await transport.get_json(path)
    except UpstreamRefused:
        return {}
    return page if isinstance(page, dict) else {}
