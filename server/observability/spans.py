"""Traces by OpenTelemetry: a request, the wait for its place, the pair's session, every call to the black box.

Numbers, ids and names only: never a prompt or an answer. Without a tracer in the context nothing is made. Each request
brings it (`api.access.middleware`), so that what runs for it, and nothing else, belongs to its trace.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, Final, Protocol

from deltaserve.errors import DeltaserveError, NotConfigured

NEEDED: Final = "Traces need OpenTelemetry: pip install 'deltaserve[otel]', or leave otlp_traces_endpoint out."
SERVER: Final = "SERVER"
INTERNAL: Final = "INTERNAL"

Value = str | int | float | bool


class Span(Protocol):
    """What is being timed."""

    def set_attribute(self, key: str, value: Value) -> Any: ...

    def update_name(self, name: str) -> Any: ...


class Tracer(Protocol):
    """Makes spans of one server."""

    def current(
        self, name: str, kind: str, attributes: Mapping[str, Value], parent: Mapping[str, str] | None
    ) -> AbstractContextManager[Span]:
        """A span that is the parent of those within; of a caller's one where its headers name one."""

    def call(self, name: str, attributes: Mapping[str, Value], headers: dict[str, str]) -> AbstractContextManager[Span]:
        """A span without any within, whose id is added to `headers` as W3C's `traceparent`."""

    def close(self) -> None:
        """Sends what waits. Blocking."""


class _Nothing:
    def set_attribute(self, key: str, value: Value) -> None:
        """Nobody looks."""

    def update_name(self, name: str) -> None:
        """Likewise."""


NOTHING: Final = _Nothing()
_TRACER: ContextVar[Tracer | None] = ContextVar("tracer", default=None)


@contextmanager
def traced(tracer: Tracer | None, name: str, parent: Mapping[str, str]) -> Iterator[Span]:
    """A request's own span; what runs within is traced by the same tracer."""
    if tracer is None:
        yield NOTHING
        return
    token = _TRACER.set(tracer)
    try:
        with tracer.current(name, SERVER, {}, parent) as span:
            yield span
    finally:
        _TRACER.reset(token)


@contextmanager
def span(name: str, attributes: Mapping[str, Value] | None = None) -> Iterator[Span]:
    """A part of the request, that the parts within belong to. It is entered and left in one task."""
    tracer = _TRACER.get()
    if tracer is None:
        yield NOTHING
        return
    with tracer.current(name, INTERNAL, attributes or {}, None) as made, _failing(made):
        yield made


@contextmanager
def call(name: str, attributes: Mapping[str, Value], headers: dict[str, str]) -> Iterator[Span]:
    """A call to another server, which is told the trace by `headers`. It may be left in another task."""
    tracer = _TRACER.get()
    if tracer is None:
        yield NOTHING
        return
    with tracer.call(name, attributes, headers) as made, _failing(made):
        yield made


@contextmanager
def _failing(made: Span) -> Iterator[None]:
    """Errors by their code or class: what they say may be too much."""
    try:
        yield
    except BaseException as error:
        code = error.code if isinstance(error, DeltaserveError) else None
        made.set_attribute("error.type", code or type(error).__name__)
        raise


def tracer_for(endpoint: str | None) -> Tracer | None:
    """One that exports to this address by OTLP over HTTP; None: no traces. Raises NotConfigured without the extra."""
    if endpoint is None:
        return None
    try:
        from deltaserve.server.observability.otel_traces import OtelTracer  # an extra
    except ImportError as error:
        raise NotConfigured(NEEDED) from error
    return OtelTracer.exporting(endpoint)
