"""Routes that clients of OpenAI and Anthropic know and that are not here: what to use in their place."""

from collections.abc import Mapping
from typing import Final

_NO_ROUTE: Final = "There is no such route; the public ones begin with /v1/."
_TEXT_ALONE: Final = "is not built here: this server generates text only"
_KEPT: Final = "is not built here: this server keeps nothing of its clients"
_AT_ONCE: Final = "is not built here: send the requests themselves, they are answered at once"
# Routes that OpenAI's and Anthropic's clients know, and what to use in their place; those below them are meant too.
_NOT_BUILT: Final[Mapping[str, str]] = {
    "/v1/embeddings": f"/v1/embeddings {_TEXT_ALONE}; ask the embedding model's own server.",
    "/v1/audio": f"/v1/audio {_TEXT_ALONE}.",
    "/v1/images": f"/v1/images {_TEXT_ALONE}.",
    "/v1/videos": f"/v1/videos {_TEXT_ALONE}.",
    "/v1/realtime": f"/v1/realtime {_TEXT_ALONE}; streams are server-sent events.",
    "/v1/moderations": "/v1/moderations is not built here: this server judges no texts.",
    "/v1/files": f"/v1/files {_KEPT}.",
    "/v1/uploads": f"/v1/uploads {_KEPT}.",
    "/v1/vector_stores": f"/v1/vector_stores {_KEPT}.",
    "/v1/conversations": f"/v1/conversations {_KEPT}; send the whole conversation as `input` of /v1/responses.",
    "/v1/responses": "Nothing is kept of a response, so nothing below /v1/responses can be asked for later.",
    "/v1/assistants": f"/v1/assistants {_KEPT}; use /v1/responses or /v1/chat/completions.",
    "/v1/threads": f"/v1/threads {_KEPT}; use /v1/responses or /v1/chat/completions.",
    "/v1/batches": f"/v1/batches {_AT_ONCE}.",
    "/v1/messages/batches": f"/v1/messages/batches {_AT_ONCE}.",
    "/v1/complete": "/v1/complete is not built here: use /v1/messages, or /v1/completions.",
    "/v1/fine_tuning": "/v1/fine_tuning is not built here: see `deltaserve train`.",
    "/chat/completions": "There is no such route: the base URL ends in /v1, as in /v1/chat/completions.",
    "/completions": "There is no such route: the base URL ends in /v1, as in /v1/completions.",
    "/responses": "There is no such route: the base URL ends in /v1, as in /v1/responses.",
    "/models": "There is no such route: the base URL ends in /v1, as in /v1/models.",
    "/v1/v1": "There is no such route: Anthropic's clients take the base URL without /v1.",
}
_V1: Final = "There is no such route: give clients this address as their base URL, and they ask /v1/chat/completions."


def not_built(path: str) -> str:
    """The sentence of a 404. Of several names that `path` begins with the longest is the one meant."""
    named = max((name for name in _NOT_BUILT if f"{path}/".startswith(f"{name}/")), key=len, default=None)
    if named is not None:
        return _NOT_BUILT[named]
    return _V1 if path == "/v1" else _NO_ROUTE
