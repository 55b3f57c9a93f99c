"""Offsets under administration: /admin. The key was checked at the door (`admin_door`)."""

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from deltaserve.errors import DeltaserveError, ModelNotFound, Unavailable
from deltaserve.server.api.requests.admin_schema import OffsetOrder, StrengthOrder
from deltaserve.server.api.requests.json_route import JsonRoute
from deltaserve.server.serving.service import Serving

if TYPE_CHECKING:
    from deltaserve.offset_models.registry.audit import Actor
    from deltaserve.offset_models.registry.registry import Change, Registry
    from deltaserve.offset_models.registry.version import Version

router = APIRouter(prefix="/admin", route_class=JsonRoute)
MAX_PAGE: Final = 1000
Json = dict[str, Any]


@router.get("/offsets")
async def list_offsets(request: Request) -> Json:
    """Every version, and every load that runs or failed."""
    registry = _registry(request)
    active = registry.active
    return {
        "active": active.name if active else None,
        "memory_bytes": registry.memory_bytes,
        "data": registry.describe(),
    }


@router.get("/offsets/{name:path}")
async def show_offset(name: str, request: Request) -> Json:
    """One of them: where a load's Location points."""
    rows: Mapping[str, Json] = {row["name"]: row for row in reversed(_registry(request).describe())}
    if name not in rows:
        raise ModelNotFound("There is no offset of that name; GET /admin/offsets lists those there are.", param="name")
    return rows[name]


@router.post("/offsets")
async def add_offset(body: OffsetOrder, request: Request, wait: bool = False) -> Response:
    """202 while the weights are loaded; 200 when the offset is there: with `?wait=true`, as a sum, or already."""
    version = await _add(body, request, wait)
    headers = {"location": f"/admin/offsets/{body.name}"}
    if version is None:
        return _json({"name": body.name, "state": "loading"}, 202, headers)
    return _json(_shown(request, version), 200, headers)


@router.post("/offsets/rollback")
async def rollback(request: Request) -> Json:
    """Back to the version that was active before."""
    return _changed(request, await _registry(request).rollback(actor=_actor(request)))


@router.post("/offsets/{name}/activate")
async def activate(name: str, request: Request) -> Json:
    """The next request uses it; running ones keep theirs."""
    return _changed(request, await _registry(request).activate(name, actor=_actor(request)))


@router.patch("/offsets/{name}")
async def set_strength(name: str, body: StrengthOrder, request: Request) -> Json:
    """A new version on the same weights."""
    return _shown(request, await _registry(request).set_strength(name, body.strength, actor=_actor(request)))


@router.delete("/offsets/{name:path}")
async def unload(name: str, request: Request) -> Json:
    """No new request finds it; its memory goes with its last stream."""
    registry = _registry(request)
    await registry.unload(name, actor=_actor(request))
    draining = any(row["name"] == name and row["state"] == "draining" for row in registry.describe())
    return {"name": name, "state": "draining" if draining else "unloaded"}


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
    }


@router.get("/audit")
async def audit(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
    before: Annotated[int | None, Query(ge=1)] = None,
) -> Json:
    """Newest first; `before` of one page asks for the next, older one."""
    log = _registry(request).audit
    if log is None:
        raise Unavailable("No audit log is kept: set state_folder.")
    page = await asyncio.to_thread(log.page, limit, before)
    return {"data": page.records, "before": page.before, "torn": page.torn}


async def _add(body: OffsetOrder, request: Request, wait: bool) -> "Version | None":
    """None: accepted, and loading."""
    registry, actor = _registry(request), _actor(request)
    if body.sum is not None:
        version = await registry.sum(body.name, body.require_sum(), actor=actor)
        if body.activate:
            await registry.activate(body.name, actor=actor)
        return version
    path, accepted = body.require_path(), asyncio.Event()
    loading = asyncio.create_task(
        registry.load(
            body.name,
            path,
            strength=body.strength,
            activate=body.activate,
            actor=actor,
            accepted=(lambda: None) if wait else accepted.set,
        )
    )
    return await _first(loading, accepted, request)


async def _first(loading: "asyncio.Task[Version]", accepted: asyncio.Event, request: Request) -> "Version | None":
    """The load's end, or its being accepted, which leaves it running. Raises what the load raises."""
    waiting = asyncio.create_task(accepted.wait())
    try:
        await asyncio.wait((loading, waiting), return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            return loading.result()
        return None
    finally:
        waiting.cancel()
        if not loading.done():
            _leave_running(loading, request)


def _leave_running(loading: "asyncio.Task[Version]", request: Request) -> None:
    """The registry completes what it began and remembers how it ended; so does the log."""
    log, running = request.app.state.log, request.app.state.loads
    request_id = request.state.record.id

    def ended(task: "asyncio.Task[Version]") -> None:
        running.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, DeltaserveError):
            log.warning("offset not loaded", id=request_id, reason=error.message)
        elif error is not None:
            log.error("defect", id=request_id, error=type(error).__name__)
        elif not task.cancelled():
            log.info("offset loaded", id=request_id, offset=task.result().name)

    running.add(loading)
    loading.add_done_callback(ended)


def _changed(request: Request, change: "Change") -> Json:
    return {"active": _shown(request, change.active), "previous": change.previous}


def _shown(request: Request, version: "Version") -> Json:
    return version.describe(_registry(request).state_of(version))


def _serving(request: Request) -> Serving:
    return cast(Serving, request.app.state.serving)


def _registry(request: Request) -> "Registry":
    """Before the black box is reached, too. Raises Unavailable while it is being opened."""
    registry = _serving(request).registry
    if registry is None:
        raise Unavailable("The server is starting: no offset has been loaded yet.")
    return cast("Registry", registry)


def _actor(request: Request) -> "Actor":
    return cast("Actor", request.state.actor)


def _json(body: Json, status: int, headers: Mapping[str, str]) -> Response:
    return Response(orjson.dumps(body), status, headers, media_type="application/json")
