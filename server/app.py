"""The app: routes, the layers around them, and a lifespan that opens the backends. No module holds state."""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Final, Self, TypeVar

from fastapi import FastAPI
from starlette.middleware import Middleware

from deltaserve.errors import DeltaserveError
from deltaserve.server import preflight
from deltaserve.server.addresses import bound, close
from deltaserve.server.admin_app import AdminServer, admin_layer
from deltaserve.server.api import errors
from deltaserve.server.api.access.auth import KeyRing, RequireKey
from deltaserve.server.api.access.cors import Cors
from deltaserve.server.api.access.middleware import BodyLimit, RequestContext
from deltaserve.server.api.access.privilege import Privilege
from deltaserve.server.api.access.reloading import KeysFile, ignore_hangups, key_ring
from deltaserve.server.api.access.room import RequireRoom
from deltaserve.server.api.doors.messages import route as messages
from deltaserve.server.api.doors.responses import route as responses
from deltaserve.server.api.replies.exchange import Spellings
from deltaserve.server.api.routes import admin, chat, completions, health, models, playground, uncorrected
from deltaserve.server.observability.fastapi_telemetry import OFF
from deltaserve.server.observability.logs import log_config, logger, send_structlog_to_logging
from deltaserve.server.observability.metrics import Metrics
from deltaserve.server.observability.pushing import pusher_for
from deltaserve.server.observability.spans import Tracer, tracer_for
from deltaserve.server.observability.telling import Telling
from deltaserve.server.serving.admission.places import Places
from deltaserve.server.serving.ports import Backends, Registry
from deltaserve.server.serving.service import Serving
from deltaserve.server.settings import Settings, load_settings
from deltaserve.server.sockets.listening import Listener
from deltaserve.server.starting import PlainStart
from deltaserve.server.wiring import SWITCH_INTERVAL_S, connect_upstream, open_here

FAILED: Final = 1  # a defect at the start, whose traceback is in the log; uvicorn's own 3 would mean something else
INTERRUPTED: Final = 130  # exit status after a second signal
_AT_ONCE_S: Final = 3.0  # from a second signal to the end of the process, whatever still runs

T = TypeVar("T")
Open = Callable[[Settings, AsyncExitStack], Awaitable[Registry]]
Connect = Callable[[Settings, Registry], Awaitable[Backends]]


@dataclass(frozen=True, slots=True)
class Build:
    """How the backends are opened, the registry first, since the black box is probed with its tokenizer; and when."""

    registry: Open = open_here
    upstream: Connect = connect_upstream
    places: Places | None = None  # None: those of this process alone
    began_ns: int = field(default_factory=time.time_ns)  # when the whole server was started, Unix time


def create_app(
    settings: Settings | None = None,
    *,
    backends: Backends | None = None,
    build: Build | None = None,
    tracer: Tracer | None = None,
) -> FastAPI:
    """The ASGI app. `backends` is given where they exist already; else they are opened when the app starts.

    `tracer` defaults to what the settings ask for. Raises NotConfigured where the file of keys cannot be used, or
    traces or metrics are to be sent without the packages that do it.
    """
    settings = settings or load_settings()
    ring, tracer = key_ring(settings), tracer or tracer_for(settings.otlp_traces_endpoint)
    metrics, log, build = Metrics(), logger(), build or Build()
    pusher = pusher_for(settings.otlp_metrics_endpoint, build.began_ns)
    serving = Serving(settings, metrics, build.places)
    app = FastAPI(
        title="deltaserve",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # `health.document`
        strict_content_type=False,
        telemetry=OFF,
        lifespan=_lifespan(serving, backends, build, ring, Telling(tracer, pusher), log),
        middleware=_layers(settings, serving, ring, tracer, log),
    )
    app.state.settings, app.state.serving, app.state.log = settings, serving, log
    app.state.spellings = Spellings()
    app.state.privilege = Privilege(settings.admin_key, settings.admin_requests_per_minute)
    app.state.start_error = None  # what ended the start
    errors.install(app, settings.retry_after_s)
    _add_routes(app, settings)
    return app


def run(settings: Settings) -> int:
    """Serves until SIGINT or SIGTERM; running answers may finish within the drain timeout. Gives the exit status.

    Raises the DeltaserveError that the start ended with: what can be known without reading a model comes first.
    """
    _end_on_signals()
    if settings.keys_file is not None:
        ignore_hangups()
    public, *others = preflight.addresses(settings)
    sockets = bound(*public)
    try:
        for other in others:
            close(bound(*other))
        asyncio.run(preflight.check(settings))
        return _run_on(sockets, settings)
    finally:
        close(sockets)


def _run_on(sockets: list[socket.socket], settings: Settings) -> int:
    send_structlog_to_logging()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    app = create_app(settings)
    server = make_server(app, settings)
    tell_start_once(app)
    try:
        return run_until_told(server, sockets)
    except SystemExit:  # uvicorn's, whatever the reason
        if app.state.start_error is not None:
            raise app.state.start_error from None
        return FAILED


def run_until_told(server: "Server", sockets: list[socket.socket] | None = None) -> int:
    """0 after a drain, also after one that had to cut answers; INTERRUPTED after a second signal."""
    _end_on_signals()
    server.run(sockets)
    return INTERRUPTED if server.hurried else 0


def _end_on_signals() -> None:
    """Before the server hears them, and after it has ended."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(INTERRUPTED))


def tell_start_once(app: FastAPI) -> None:
    """What ended the start is told by whoever called `run`: the log does not repeat it, nor uvicorn that it did."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda _: app.state.start_error is None)


def make_server(app: FastAPI, settings: Settings) -> "Server":
    """What listens: on the public address, and on the admin routes' own where there is one. Raises AddressUnusable."""
    return Server.over(app, settings)


class Server(Listener):
    """The public address, and the admin routes' own beside it.

    Hears SIGINT and SIGTERM: the first begins the drain, a second one ends it at once, whichever they are.
    """

    def __init__(
        self, app: FastAPI, settings: Settings, serving: Serving, beside: AdminServer | None, *, shared: bool = False
    ) -> None:
        logs = log_config(settings.log_level, settings.log_json)
        super().__init__(app, settings, serving.metrics, settings.host, settings.port, shared=shared, log_config=logs)
        self._serving = serving
        self._beside = beside

    @classmethod
    def over(cls, app: FastAPI, settings: Settings, admin: list[socket.socket] | None = None) -> Self:
        """`admin`: bound sockets that other processes listen on too, as on the public ones. Raises AddressUnusable."""
        serving: Serving = app.state.serving
        beside = AdminServer(app, serving.metrics, admin) if settings.admin_port is not None else None
        return cls(app, settings, serving, beside, shared=admin is not None)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._beside is not None and self.started:
            self._beside.begin()

    async def drain(self) -> None:
        beside = [] if self._beside is None else [self._beside.end()]
        await asyncio.gather(super().drain(), *beside)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  (as uvicorn calls it)
        if not self.should_exit:
            self._serving.draining = True
            self.should_exit = True
        elif not self.hurried:
            self._hurry()

    def _hurry(self) -> None:
        self.hurried = True
        if self._beside is not None:
            self._beside.hurried = True
        timer = threading.Timer(_AT_ONCE_S, os._exit, (INTERRUPTED,))  # should anything hold up the end
        timer.daemon = True
        timer.start()


def _layers(
    settings: Settings, serving: Serving, ring: KeyRing | None, tracer: Tracer | None, log: Any
) -> list[Middleware]:
    """Outermost first."""
    layers = [Middleware(Cors, settings.cors_origins)] if settings.cors_origins else []
    layers += [Middleware(PlainStart, log), Middleware(RequestContext, serving, log, tracer)]
    if ring is not None:
        layers.append(Middleware(RequireKey, ring, serving))
    if settings.admin_shares_address:
        layers += admin_layer(settings)
    layers.append(Middleware(RequireRoom, serving))
    return [*layers, Middleware(BodyLimit, settings.max_body_bytes, settings.body_timeout_s)]


def _add_routes(app: FastAPI, settings: Settings) -> None:
    for door in (completions, chat, responses, messages, models):
        app.include_router(door.router)
    for router in (health.health_router, health.document_router):
        app.include_router(router)
    if settings.playground:
        app.include_router(playground.page_router(settings))
        app.include_router(uncorrected.router)
    if settings.admin_shares_address:
        app.include_router(admin.router)
    if settings.metrics:
        app.include_router(health.metrics_router)


def _lifespan(
    serving: Serving,
    backends: Backends | None,
    build: Build,
    ring: KeyRing | None,
    telling: Telling,
    log: Any,
) -> Any:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if ring is None:
                log.warning("no api_keys: listening on loopback only", host=serving.settings.host)
            else:
                stack.enter_context(KeysFile(serving.settings, ring, serving.metrics, log).heard())
            telling.open(stack)
            joiner = None
            if backends is None:
                joiner = await _unless_told(_open(serving, build, stack, log), serving)
            else:
                serving.attach(backends)
            tasks = [asyncio.create_task(_watch(serving, joiner)), *telling.begin(serving.counted)]
            try:
                yield
            finally:
                serving.draining = True
                for task in tasks:
                    await _cancelled(task)

    return lifespan


async def _unless_told(work: Coroutine[Any, Any, T], serving: Serving) -> T | None:
    """The result of `work`; None when a signal to end the server came first, which ends the start too."""
    task = asyncio.create_task(work)
    while not task.done() and not serving.draining:
        await asyncio.wait({task}, timeout=0.1)
    if task.done():
        return task.result()
    await _cancelled(task)
    return None


async def _open(serving: Serving, build: Build, stack: AsyncExitStack, log: Any) -> "_Joiner":
    """The registry, and the black box if it is there."""
    registry = await build.registry(serving.settings, stack)
    serving.open(registry)
    joiner = _Joiner(serving, registry, build.upstream, stack, log)
    await joiner.join()
    return joiner


@dataclass(slots=True)
class _Joiner:
    """Connects to the black box: now, or, when it is not there yet, as soon as it is."""

    serving: Serving
    registry: Registry
    connect: Connect
    stack: AsyncExitStack
    log: Any
    reason: str = ""  # why not yet, as it was logged last

    async def join(self) -> bool:
        """True when the black box is connected; False when another try may help. Raises what no try can mend."""
        try:
            backends = await self.connect(self.serving.settings, self.registry)
        except DeltaserveError as error:
            if not error.retryable:
                raise
            self._say_once(error)
            return False
        self.stack.push_async_callback(backends.upstream.aclose)
        self.serving.attach(backends)
        self.log.info("ready", model=backends.served_name, upstream=backends.upstream.capabilities.describe())
        return True

    def _say_once(self, error: DeltaserveError) -> None:
        """A line when the reason changes, not one for every try."""
        reason = preflight.advised(error, self.serving.settings)
        if reason != self.reason:
            self.log.warning("not ready", reason=reason)
        self.reason = reason

    async def keep_trying(self) -> None:
        """Until it stands, or cannot."""
        try:
            while not self.serving.attached:
                await asyncio.sleep(self.serving.settings.connect_timeout_s)
                await self.join()
        except DeltaserveError as error:
            self.serving.failure = error.message
            self.log.error("cannot start", reason=error.message)


async def _watch(serving: Serving, joiner: _Joiner | None) -> None:
    if joiner is not None:
        await joiner.keep_trying()
    if serving.attached:
        await serving.watch_upstream()


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
