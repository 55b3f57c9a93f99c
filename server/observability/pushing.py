"""Sending the counts of /metrics to who asks for none: to an OpenTelemetry collector, every minute or as it says."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from prometheus_client import Metric

from deltaserve.errors import NotConfigured
from deltaserve.server.observability.logs import logger
from deltaserve.server.observability.metrics import Metrics

NEEDED: Final = (
    "Sending metrics needs OpenTelemetry: pip install 'deltaserve[otel]', or leave otlp_metrics_endpoint out."
)


class Pusher(Protocol):
    """Takes what is counted, and sends it."""

    interval_s: float

    def offer(self, families: Sequence[Metric]) -> None:
        """Does not wait. What was offered before and is not sent yet is dropped: the newer counts contain it."""

    def close(self) -> None:
        """Sends what waits. Blocking."""


def pusher_for(endpoint: str | None, began_ns: int) -> Pusher | None:
    """One that exports to this address by OTLP over HTTP; None: nothing is sent.

    `began_ns`: since when is counted, Unix time. Raises NotConfigured without the extra and for a bad interval.
    """
    if endpoint is None:
        return None
    try:
        from deltaserve.server.observability.otel_metrics import OtelPusher  # an extra
    except ImportError as error:
        raise NotConfigured(NEEDED) from error
    return OtelPusher.exporting(endpoint, began_ns)


async def push(pusher: Pusher, counted: Callable[[], Awaitable[Metrics]]) -> None:
    """Until it is cancelled; then once more, so that the last requests are told."""
    try:
        while True:
            await asyncio.sleep(pusher.interval_s)
            await _offer(pusher, counted)
    finally:
        await _offer(pusher, counted)


async def _offer(pusher: Pusher, counted: Callable[[], Awaitable[Metrics]]) -> None:
    """One that fails is no reason to end, neither the sending nor the server."""
    try:
        pusher.offer((await counted()).families())
    except Exception as error:  # noqa: BLE001  (whatever it is, the next one may be whole)
        logger().warning("metrics were not sent", reason=f"{type(error).__name__}: {error}")
