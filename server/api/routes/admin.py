"""Offsets under administration: /admin. The key was checked at the door (`admin_door`)."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final, cast

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from deltaserve.errors import ModelNotFound, Unavailable
from deltaserve.server.api.replies.described import Loading, refusals
from deltaserve.server.api.requests.admin_schema import OffsetOrder, StrengthOrder
from deltaserve.server.api.requests.json_route import JsonRoute
from deltaserve.server.serving.ports import Json, Offsets
from deltaserve.server.serving.service import Serving

if TYPE_CHECKING:
    from deltaserve.offset_models.registry.audit import Actor

router = APIRouter(prefix="/admin", route_class=JsonRoute, responses=refusals())
MAX_PAGE: Final = 1000
Quorum = Annotated[int | None, Query(ge=1, le=10_000)]  # replicas that are enough; None: all that are alive


@router.get("/offsets")
async def list_offsets(request: Request) -> Json:
    """Every version, and every load that runs or failed."""
    return await _offsets(request).listing()


@router.get("/offsets/{name:path}")
async def show_offset(name: str, request: Request) -> Json:
    """One of them: where a load's Location points."""
    listing = await _offsets(request).listing()
    rows: Mapping[str, Json] = {row["name"]: row for row in reversed(listing["data"])}
    if name not in rows:
        raise ModelNotFound("There is no offset of that name; GET /admin/offsets lists those there are.", param="name")
    return rows[name]


@router.post("/offsets", responses={202: {"model": Loading, "description": "Accepted."}})
async def add_offset(body: OffsetOrder, request: Request, wait: bool = False) -> Response:
    """202 while the weights are loaded; 200 when the offset is there: with `?wait=true`, as a sum, or already."""
    shown = await _add(body, request, wait)
    headers = {"location": f"/admin/offsets/{body.name}"}
    if shown is None:
        return _json({"name": body.name, "state": "loading"}, 202, headers)
    return _json(shown, 200, headers)


@router.post("/offsets/rollback")
async def rollback(request: Request, quorum: Quorum = None) -> Json:
    """Back to the version that was active before."""
    return await _offsets(request).rollback(quorum=quorum, actor=_actor(request))


@router.post("/offsets/{name}/activate")
async def activate(name: str, request: Request, quorum: Quorum = None) -> Json:
    """The next request uses it; running ones keep theirs. In a fleet the answer says which replicas hold it."""
    return await _offsets(request).activate(name, quorum=quorum, actor=_actor(request))


@router.patch("/offsets/{name}")
async def set_strength(name: str, body: StrengthOrder, request: Request) -> Json:
    """A new version on the same weights."""
    return await _offsets(request).set_strength(name, body.strength, actor=_actor(request))


@router.delete("/offsets/{name:path}")
async def unload(name: str, request: Request) -> Json:
    """No new request finds it; its memory goes with its last stream."""
    return await _offsets(request).unload(name, actor=_actor(request))


@router.get("/upstream")
async def upstream(request: Request) -> Json:
    """What the black box can do, what it is held to, and when it was last heard."""
    serving = _serving(request)
    settings, silence_s = serving.settings, time.monotonic() - serving.heard_from_upstream
    heard = datetime.fromtimestamp(time.time() - silence_s, UTC) if serving.attached else None
    return {
        "capabilities": serving.backends.upstream.capabilities.describe(),
        "limits": {
            "max_context": settings.upstream_max_context or serving.backends.upstream.capabilities.max_context,
            "connect_timeout_s": settings.connect_timeout_s,
            "first_token_timeout_s": settings.first_token_timeout_s,
            "between_tokens_timeout_s": settings.between_tokens_timeout_s,
            "total_timeout_s": settings.total_timeout_s,
        },
        "last_contact": heard.isoformat(timespec="milliseconds") if heard else None,
        "fault": serving.upstream_trouble,
        "members": serving.upstream_members,
    }


@router.get("/fleet")
async def fleet(request: Request) -> Json:
    """Each replica: what it holds, how far it is behind, and the streams on each version."""
    return await _offsets(request).fleet()


@router.get("/audit")
async def audit(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
) -> Json:
    """Newest first; `before` of one page asks for the next, older one."""
    return await _offsets(request).audit(limit, before)


async def _add(body: OffsetOrder, request: Request, wait: bool) -> Json | None:
    """None: accepted, and loading."""
    offsets, actor = _offsets(request), _actor(request)
    if body.sum is not None:
        return await offsets.sum(body.name, body.require_sum(), activate=body.activate, actor=actor)
    return await offsets.add(
        body.name, body.require_path(), strength=body.strength, activate=body.activate, wait=wait, actor=actor
    )


def _serving(request: Request) -> Serving:
    return cast(Serving, request.app.state.serving)


def _offsets(request: Request) -> Offsets:
    """Before the black box is reached, too. Raises Unavailable while they are being opened."""
    registry = _serving(request).registry
    if registry is None:
        raise Unavailable("The server is starting: no offset has been loaded yet.")
    return cast(Offsets, registry)


def _actor(request: Request) -> "Actor":
    return cast("Actor", request.state.actor)


def _json(body: Json, status: int, headers: Mapping[str, str]) -> Response:
    return Response(orjson.dumps(body), status, headers, media_type="application/json")
