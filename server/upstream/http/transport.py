"""The one seam over HTTP: JSON calls through httpx, and streamed answers as server-sent event payloads.

Everything below this file's surface raises errors of the UpstreamError branch; none carries prompt or answer text.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import httpx2 as httpx
import orjson
import stamina

from deltaserve.errors import (
    UncorrectableUpstream,
    UpstreamBusy,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from deltaserve.server.observability.spans import Span, Value
from deltaserve.server.observability.spans import call as traced_call
from deltaserve.server.upstream.http.attempts import LONGEST_WAIT_S, Call, asks_for_a_pause, retry_wait
from deltaserve.server.upstream.http.continuity import Continuity
from deltaserve.server.upstream.http.events import Framing
from deltaserve.server.upstream.http.refusals import Restarting, error_from_body
from deltaserve.server.upstream.http.retry_budget import RetryBudget
from deltaserve.server.upstream.http.stream import EventStream, Limits, Timeouts
from deltaserve.server.upstream.http.strict_json import parsed
from deltaserve.server.upstream.http.throttle import OverLimit, Place, Throttle
from deltaserve.server.upstream.http.weight import tokens_of
from deltaserve.server.upstream.http.wire import Wire

__all__ = ["EventStream", "Framing", "Limits", "Timeouts", "Transport", "base_url"]

T = TypeVar("T")
_LARGEST_ERROR_BODY = 1 << 16


class Transport:
    """Calls to one upstream: keep-alive, no proxies from the environment, no redirects, the key for this host only."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        throttle: Throttle | None = None,
    ) -> None:
        self.throttle = throttle or Throttle()
        self.timeouts = timeouts or Timeouts()
        self.limits = limits or Limits()
        self._budget = RetryBudget()
        headers = {"accept-encoding": "identity", "user-agent": "deltaserve"}
        if key:
            headers["authorization"] = f"Bearer {key}"
        self.continuity: Continuity | None = None  # tells after a lost connection whether it is the same server
        connections = self.limits.connections
        root = base_url(url)
        self._host = httpx.URL(root).host
        self._wire = Wire(httpx.URL(root), headers, self.timeouts.connect_s, connections)
        self._client = httpx.AsyncClient(
            base_url=root,
            headers=headers,
            timeout=httpx.Timeout(None, connect=self.timeouts.connect_s, pool=self.timeouts.connect_s),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            follow_redirects=False,
            trust_env=False,
            verify=root.startswith("https"),  # certificates take time to load, and plain HTTP has none
        )
        self._retrying = stamina.AsyncRetryingCaller(
            attempts=self.limits.attempts, timeout=self.timeouts.total_s, wait_initial=0.1, wait_max=LONGEST_WAIT_S
        )

    async def aclose(self) -> None:
        if self.continuity is not None:
            await self.continuity.aclose()
        self._wire.close()
        await self._client.aclose()
        await asyncio.sleep(0)  # sockets close in the loop's next turn

    async def get_json(self, path: str) -> Any:
        """GET, parsed. Raises UpstreamError: UpstreamRefused for no JSON, MalformedTopK for a name that comes twice."""
        return await self._json("GET", path, None)

    async def post_json(self, path: str, body: Mapping[str, Any]) -> Any:
        return await self._json("POST", path, body)

    @asynccontextmanager
    async def stream(self, path: str, body: Mapping[str, Any], framing: Framing = "sse") -> AsyncIterator[EventStream]:
        """POST, then the answer's events; leaving the context closes the connection. Retries before the first byte."""
        deadline, call = asyncio.get_running_loop().time() + self.timeouts.total_s, self._call()
        headers: dict[str, str] = {}

        async def opened() -> tuple[Place, EventStream]:
            async with AsyncExitStack() as unless_known:
                async with call.attempt(), self._placed(body, call) as place:
                    events = await self._open(self._wire.request(path, orjson.dumps(body), headers), deadline, framing)
                    unless_known.push_async_callback(events.aclose)
                    unless_known.callback(place.leave)
                unless_known.pop_all()
                return place, events

        with self._traced("POST", path, headers) as traced:
            place, events = await self._tried(opened)
            try:
                yield events
            finally:
                traced.set_attribute("deltaserve.upstream.events", events.count)
                place.leave(events.count)
                call.heard(events.error)
                await events.aclose()

    async def revalidate(self) -> None:
        """Looks whether it is still the server that was probed, where there is or was doubt. Raises UpstreamError."""
        if self.continuity is not None:
            self.continuity.look_again()
            await self.continuity.settled()

    def _call(self) -> Call:
        return Call(self.continuity, bounded=self.throttle.rates.at_once is not None)

    def _traced(self, method: str, path: str, headers: dict[str, str]) -> AbstractContextManager[Span]:
        """The call's span, that the black box is told of by `headers`."""
        facts: dict[str, Value] = {"http.request.method": method, "url.path": path, "server.address": self._host}
        return traced_call(f"{method} {path}", facts, headers)

    async def _open(self, request: bytes, deadline: float, framing: Framing) -> EventStream:
        """Until the first event is there, so that everything that may be retried has happened."""
        while True:
            connection = await self._wire.acquire()
            events = EventStream(connection, self._wire, self.timeouts, self.limits, deadline, framing)
            try:
                connection.send(request, events)
                if await events.wait():
                    return events
                raise UpstreamUnreachable("The upstream closed the connection without an answer.")
            except BaseException as error:
                stale = connection.used and not events.began and isinstance(error, UpstreamUnreachable)
                await events.aclose()
                if not stale:
                    raise
            # The server had closed an idle connection just as it was taken again: not its failure, so no attempt lost.

    async def _json(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        call, headers = self._call(), dict[str, str]()

        async def answered() -> bytes:
            async with call.attempt():
                if body is None:
                    await self.throttle.quiet()
                    return await self._answered(method, path, body, headers)
                async with self._placed(body, call) as place:
                    answer = await self._answered(method, path, body, headers)
                place.leave()
                return answer

        try:
            with self._traced(method, path, headers):
                return parsed(await self._tried(answered))
        except ValueError as error:
            raise _no_json(error) from None

    async def _answered(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> bytes:
        async with self._answer_in_time():
            response = await self._send(method, path, body, headers)
            if response.status_code != 200:
                raise await _failure(response)
            return await _read_all(response, self.limits.event_bytes)

    @asynccontextmanager
    async def _placed(self, body: Mapping[str, Any], call: Call) -> AsyncIterator[Place]:
        """The call's place, to be left by whoever reads its answer; left here where there is none."""
        counted = self.throttle.rates.tokens_per_minute is not None
        place = await self.throttle.enter(tokens_of(body) if counted else 0, again=call.refused)
        try:
            yield place
        except BaseException as error:
            if isinstance(error, UpstreamBusy) and asks_for_a_pause(error):
                call.refused = True
                place.refused(error.retry_after_s)
            place.leave()
            raise
        place.taken()

    async def _tried(self, call: Callable[[], Awaitable[T]]) -> T:
        """What `call` gives, which takes no arguments: the retry library logs them.

        That library sets itself up for every call at a fifth of the call's cost, so it hears only of those that failed.
        """
        self._budget.called()
        until = asyncio.get_running_loop().time() + self.throttle.rates.patience_s
        while True:
            try:
                return await self._attempted(call)
            except UpstreamBusy as busy:
                if self.limits.attempts == 1 or not self._comes_back(busy, until):
                    raise

    def _comes_back(self, busy: UpstreamBusy, until: float) -> bool:
        """Whether the upstream, which asks for a pause, can be asked again in time: its turn waits for that."""
        left = until - asyncio.get_running_loop().time()
        return not isinstance(busy, OverLimit | Restarting) and 0.0 < self.throttle.pause_s <= left

    async def _attempted(self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            return await call()
        except UpstreamError as error:
            if retry_wait(error) is False:
                raise
            failures = [error]

        async def again() -> T:
            if failures:
                raise failures.pop()
            return await call()

        return await self._retrying(self._retry_wait, again)

    def _retry_wait(self, error: Exception) -> bool | float:
        """As `retry_wait`, within the budget."""
        return retry_wait(error) if self._budget.spend() else False

    @asynccontextmanager
    async def _answer_in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self.timeouts.first_token_s):
                yield
        except TimeoutError:
            raise UpstreamTimeout("The upstream did not answer in time.") from None

    async def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> httpx.Response:
        content = None if body is None else orjson.dumps(body)
        typed = {} if body is None else {"content-type": "application/json"}
        request = self._client.build_request(method, path, content=content, headers={**headers, **typed})
        try:
            return await self._client.send(request, stream=True)
        except httpx.TransportError as error:
            raise _transport_error(error) from None


def base_url(url: str) -> str:
    """The server's root: people write it with and without the `/v1` that every path of ours already has."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.userinfo:
        raise UncorrectableUpstream(
            "The upstream address must be http(s)://host[:port], without a user or password in it."
        )
    return str(parsed.copy_with(query=None, fragment=None)).rstrip("/").removesuffix("/v1")


def _no_json(error: ValueError) -> UpstreamError:
    """Half a document was cut off, as half a stream is; anything else is no answer of a server that we know."""
    if isinstance(error, orjson.JSONDecodeError) and 0 < error.pos == len(error.doc):
        return UpstreamUnreachable("The upstream's answer was cut off.")
    return UpstreamRefused("The upstream answered something that is not JSON.")


async def _failure(response: httpx.Response) -> UpstreamError:
    try:
        body = await _read_all(response, _LARGEST_ERROR_BODY)
    except UpstreamError:
        body = b""  # the status alone says enough
    return error_from_body(response.status_code, body, response.headers.get("retry-after"))


async def _read_all(response: httpx.Response, most: int) -> bytes:
    content = bytearray()
    try:
        async for chunk in response.aiter_raw():
            content += chunk
            if len(content) > most:
                raise UpstreamRefused(f"The upstream answered more than {most} bytes.")
    except httpx.TransportError as error:
        raise _transport_error(error) from None
    finally:
        await response.aclose()
    return bytes(content)


def _transport_error(error: httpx.TransportError) -> UpstreamError:
    if isinstance(error, httpx.PoolTimeout):
        return OverLimit("All connections to the upstream are in use.")
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return UpstreamUnreachable("The upstream cannot be reached.")
    if isinstance(error, httpx.TimeoutException):
        return UpstreamTimeout("The upstream did not answer in time.")
    return UpstreamUnreachable(f"The connection to the upstream broke ({type(error).__name__}).")
