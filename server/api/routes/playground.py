"""GET /playground: the page, from the package's own files, with a policy that lets it load and reach nothing else."""

from collections.abc import Awaitable, Callable, Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from deltaserve.server.api.access.privilege import Privilege
from deltaserve.server.settings import Settings

PATH: Final = "/playground"
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
    """The page at /playground, its files below it, and what it may know of this server before any key is given."""
    router = APIRouter(include_in_schema=False)
    for name, content in _page_files().items():
        path = PATH if name == PAGE else f"{PATH}/{name}"
        router.add_api_route(path, _served(content, TYPES[name[name.rindex(".") :]]), methods=["GET", "HEAD"])

    @router.api_route("/", methods=["GET", "HEAD"])
    async def home(request: Request) -> Response:
        return RedirectResponse(request.scope.get("root_path", "") + PATH)

    @router.get(f"{PATH}/about.json")
    async def about(request: Request) -> dict[str, Any]:
        privilege: Privilege = request.app.state.privilege
        return {
            "needs_api_key": settings.needs_key,
            "has_admin_key": privilege.exists,
            "admin_routes": settings.admin_shares_address,
            "examples": list(settings.playground_examples),
        }

    return router


def _page_files() -> dict[str, bytes]:
    """Path below the page's folder to content; read once."""
    return dict(_below(files("deltaserve.server").joinpath("playground"), ""))


def _below(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for file in folder.iterdir():
        if file.is_dir():
            yield from _below(file, f"{prefix}{file.name}/")
        elif file.name.endswith(tuple(TYPES)):
            yield f"{prefix}{file.name}", file.read_bytes()


def _served(content: bytes, media_type: str) -> Callable[[], Awaitable[Response]]:
    async def serve() -> Response:
        return Response(content, media_type=media_type, headers=HEADERS)

    return serve
