"""How the server is: liveness, readiness, version, metrics, all open and silent about requests; and what it offers."""

from importlib.metadata import version as installed_version
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from deltaserve.server.api.access.privilege import Privilege
from deltaserve.server.api.replies.described import Readiness, answers, plain_refusals, refusals
from deltaserve.server.serving.service import Serving
from deltaserve.server.serving.worker_threads import SHORT_BYTES

health_router = APIRouter(responses=refusals())
metrics_router = APIRouter()
document_router = APIRouter(include_in_schema=False)
_READY: Final = {**answers(Readiness), 503: {"model": Readiness, "description": "Not ready."}}


@health_router.get("/health/live")
async def live() -> dict[str, str]:
    """The process runs; nothing else is asked."""
    return {"status": "live"}


@health_router.get("/health", responses=_READY)
@health_router.get("/health/ready", responses=_READY)
async def ready(request: Request) -> Response:
    """200 when requests are answered: an offset is active, the black box answered lately, nothing is draining."""
    serving: Serving = request.app.state.serving
    problems = await serving.problems()
    body = orjson.dumps({"status": "not ready" if problems else "ready", "problems": problems})
    return Response(body, 503 if problems else 200, media_type="application/json")


@health_router.get("/version")
async def version() -> dict[str, Any]:
    return {"version": installed_version("deltaserve")}


@document_router.get("/openapi.json")
async def document(request: Request) -> Response:
    """The OpenAPI document. Making it takes long the first time, so a thread does it."""
    serving: Serving = request.app.state.serving
    body = await serving.threads.run(SHORT_BYTES + 1, lambda: orjson.dumps(request.app.openapi()))
    return Response(body, media_type="application/json")


@metrics_router.get("/metrics", response_class=PlainTextResponse, responses=plain_refusals())
async def metrics(request: Request) -> Response:
    """Prometheus text format. What is told by client is for those who have the admin key, and else for nobody."""
    serving: Serving = request.app.state.serving
    counts = await serving.counted()
    privilege: Privilege = request.app.state.privilege
    by_key = privilege.held(request.headers)
    return Response(counts.exposition(by_key=by_key), media_type="text/plain; version=0.0.4; charset=utf-8")
