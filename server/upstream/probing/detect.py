"""Which server answers, by what it says of itself: a hint for the probe, never trusted for semantics."""

from dataclasses import dataclass
from typing import Any

from deltaserve.errors import UncorrectableUpstream, UpstreamRefused
from deltaserve.server.upstream.base import Dialect
from deltaserve.server.upstream.http.transport import Transport
from deltaserve.server.upstream.probing.vendors import hosted_api, is_ollama, ollama_model, page_of, router_named


@dataclass(frozen=True, slots=True)
class Detected:
    """What the server's own pages say."""

    dialect: Dialect
    server: str
    model: str
    vocab_size: int | None
    max_context: int | None
    slots: int | None = None
    end: str | int | None = None  # its end token, by its text or its id
    weights: str | None = None  # where it says it has them from
    notes: tuple[str, ...] = ()
    is_known: bool = True  # the server whose dialect it is, not another that speaks it


async def detect(transport: Transport, model: str | None, dialect: Dialect | None) -> Detected:
    """Name, model and limits; `dialect` overrides the guess. Raises UncorrectableUpstream when the model is missing."""
    cards = await _cards(transport)
    card, notes = _card(cards, model)
    owner = str(card.get("owned_by", ""))
    hosted = hosted_api(card)
    if dialect == "ollama" or (dialect is None and hosted is None and await is_ollama(transport, owner)):
        return await _ollama(transport, card, notes)
    props = await page_of(transport, "/props") if owner == "llamacpp" or dialect == "llamacpp" else {}
    native = await _native(transport) if owner == "sglang" or dialect == "sglang" else {}
    version = await page_of(transport, "/version") if not (props or native) else {}
    guess = dialect or hosted or _dialect(owner, props, version, native)
    meta = card.get("meta") or {}
    slot = (props.get("default_generation_settings") or {}).get("n_ctx")  # the context of one slot
    return Detected(
        dialect=guess,
        server=router_named(card) or _server(guess, owner, props or native, version),
        model=str(card["id"]),
        vocab_size=_whole(meta.get("n_vocab")),
        max_context=_context(card) or _whole(slot) or _whole(meta.get("n_ctx")),
        slots=_whole(props.get("total_slots")),
        end=props["eos_token"] if isinstance(props.get("eos_token"), str) else None,
        weights=str(native.get("weights") or card.get("root") or props.get("model_path") or "") or None,
        notes=notes,
        is_known={"vllm": owner == "vllm", "sglang": bool(native)}.get(guess, True),
    )


async def _ollama(transport: Transport, card: dict[str, Any], notes: tuple[str, ...]) -> Detected:
    shown = await ollama_model(transport, str(card["id"]))
    return Detected(
        dialect="ollama",
        server=f"Ollama {shown.version or ''}".rstrip(),
        model=str(card["id"]),
        vocab_size=shown.vocab_size,
        max_context=None,  # that of a loaded model is a setting which it does not tell here
        end=shown.end_id,
        weights=shown.digest,
        notes=notes,
    )


async def _native(transport: Transport) -> dict[str, Any]:
    """SGLang's own pages; nothing where a gateway shows only OpenAI's routes."""
    pages = [await page_of(transport, path) for path in ("/model_info", "/server_info")]
    if not pages[0]:
        return {}
    weights = f"{pages[0].get('model_path')} {pages[0].get('weight_version')}"
    return {"build_info": pages[1].get("version"), "weights": weights}


def _dialect(owner: str, props: dict[str, Any], version: dict[str, Any], native: dict[str, Any]) -> Dialect:
    if native:
        return "sglang"
    if owner == "llamacpp" or props:
        return "llamacpp"
    return "vllm" if owner == "vllm" or "version" in version else "openai"


def _server(dialect: Dialect, owner: str, props: dict[str, Any], version: dict[str, Any]) -> str:
    name = {
        "llamacpp": "llama.cpp",
        "sglang": "SGLang",
        "vllm": "vLLM" if owner == "vllm" else owner or "vLLM-like",
    }.get(dialect, owner)
    build = props.get("build_info") or version.get("version")
    return f"{name or 'unknown'} {build}" if build else name or "unknown"


async def _cards(transport: Transport) -> list[dict[str, Any]]:
    try:
        answer = await transport.get_json("/v1/models")
    except UpstreamRefused as error:
        if getattr(error, "http_status", None) in (401, 403):
            raise UncorrectableUpstream("The upstream refused the key: set the upstream key.") from None
        answer = await page_of(transport, "/models")  # DeepSeek's; hosted servers may have neither page
    cards = answer.get("data") if isinstance(answer, dict) else answer
    return [card for card in cards if isinstance(card, dict) and "id" in card] if isinstance(cards, list) else []


def _card(cards: list[dict[str, Any]], model: str | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    if model is None:
        if not cards:
            raise UncorrectableUpstream("The upstream does not list its models: name the upstream model.")
        several = len(cards) > 1
        return cards[0], (f"It serves {len(cards)} models; the first one was taken.",) if several else ()
    for card in cards:
        if model in (card["id"], str(card["id"]).removesuffix(":latest"), *(card.get("aliases") or ())):
            return card, ()
    if cards:
        names = ", ".join(str(card["id"]) for card in cards[:8])
        raise UncorrectableUpstream(f"The upstream has no model named {model}; it has {names}.")
    return {"id": model}, ()


def _context(card: dict[str, Any]) -> int | None:
    return _whole(card.get("max_model_len")) or _whole(card.get("context_length"))


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
