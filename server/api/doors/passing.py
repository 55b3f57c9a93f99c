"""Fields of chat requests that the clients of another API send beside its own."""

from collections.abc import Container, Mapping
from typing import Any

from deltaserve.server.api.requests.schema import ChatRequest
from deltaserve.server.api.requests.unsupported import CHAT, COMMON


def passed_on(fields: Mapping[str, Any] | None, but: Container[str]) -> dict[str, Any]:
    """Those that a chat request knows, if only to refuse them; others are ignored, as there."""
    known = ChatRequest.model_fields.keys() | COMMON.keys() | CHAT.keys()
    return {name: value for name, value in (fields or {}).items() if name in known and name not in but}
