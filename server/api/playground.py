"""GET /playground: the page, from the package's own files, with a policy that lets it load and reach nothing else."""

from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from server.api.privilege import Privilege
from server.settings import Settings

PAGE: Final = "index.html"
TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}


def page_router(settings: Settings) -> APIRouter:
    """The page at /playground, its files beside it, and what it may know of this server before any key is given."""
    router = APIRouter(include_in_schema=False)
    for name, content in _page_files().items():
        path = "/playground" if name == PAGE else f"/playground/{name}"
        router.add_api_route(path, _served(content, TYPES[name[name.rindex(".") :]]), methods=["GET", "HEAD"])

    @router.get("/playground/about.json")
    async def about(request: Request) -> dict[str, Any]:
        privilege: Privilege = request.app.state.privilege
        return {
            "needs_api_key": bool(settings.api_keys),
            "has_admin_key": privilege.exists,
            "examples": list(settings.playground_examples),
        }

    return router


def _page_files() -> dict[str, bytes]:
    """Name to content; read once."""
    folder = files("server").joinpath("playground")
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name.endswith(tuple(TYPES))}


def _served(content: bytes, media_type: str) -> Callable[[], Awaitable[Response]]:
    async def serve() -> Response:
        return Response(content, media_type=media_type, headers=HEADERS)

    return serve
