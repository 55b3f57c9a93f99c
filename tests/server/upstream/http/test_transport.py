"""The HTTP seam against a real server: what is sent, what is waited for, when the connection closes."""

import asyncio
import gc
import time
import weakref
from typing import Any

import orjson
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from deltaserve.errors import (
    UncorrectableUpstream,
    UpstreamBusy,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from deltaserve.server.observability.otel_traces import OtelTracer
from deltaserve.server.observability.spans import traced
from deltaserve.server.upstream.http.transport import Limits, Timeouts, Transport, base_url
from tests.support.replay import DONE, UNTIL_THE_CLIENT_LEAVES, Replay, Reply, event, json_reply, recorded, replaying

pytestmark = pytest.mark.anyio

QUICK = Timeouts(connect_s=1.0, first_token_s=0.3, between_tokens_s=0.3, total_s=5.0)
ONCE = Limits(attempts=1)
BODY = {"prompt": "a secret"}


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


def transport(replay: Replay, **options: Any) -> Transport:
    return Transport(replay.url, **{"timeouts": QUICK, "limits": ONCE} | options)


async def payloads(client: Transport) -> list[bytes]:
    found: list[bytes] = []
    try:
        async with client.stream("/v1/completions", BODY) as events:
            while await events.wait():
                found.append(events.arrived.popleft())
    finally:
        await client.aclose()
    return found


async def test_events_come_in_order_whatever_the_chunks() -> None:
    whole = b"".join(event({"n": n, "text": "a\u2028b"}) for n in range(3)) + b": keep-alive\n\n" + DONE
    for size in (1, 7, 1000):
        pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
        async with replaying(Reply(pieces)) as replay:
            *found, done = await payloads(transport(replay))
        assert [orjson.loads(payload)["n"] for payload in found] == [0, 1, 2]
        assert done == b"[DONE]"


async def test_a_traced_call_tells_the_black_box_its_trace_and_another_one_nothing() -> None:
    exporter = InMemorySpanExporter()
    tracer = OtelTracer(SimpleSpanProcessor(exporter))
    async with replaying(Reply([event({}), DONE])) as replay:
        with traced(tracer, "POST", {}):
            await payloads(transport(replay))
        await payloads(transport(replay))
    made, request = sorted(exporter.get_finished_spans(), key=lambda span: span.name != "POST /v1/completions")
    told, untold = (one.headers.get("traceparent") for one in replay.requests)
    assert made.context is not None and request.context is not None and made.parent is not None
    assert told is not None
    assert told.startswith(f"00-{made.context.trace_id:032x}-{made.context.span_id:016x}-")
    assert made.parent.span_id == request.context.span_id
    assert (made.attributes or {})["deltaserve.upstream.events"] == 2
    assert untold is None


async def test_a_closed_connection_is_freed_at_once_not_when_circles_are_searched_for() -> None:
    """Every replaced token closes one, and each holds its socket's buffers."""
    async with replaying(Reply([event({}), UNTIL_THE_CLIENT_LEAVES])) as replay:
        client = transport(replay)
        gc.disable()
        try:
            async with client.stream("/v1/completions", BODY) as events:
                await events.wait()
                connection = weakref.ref(events._connection)
            del events
            for _ in range(3):
                await asyncio.sleep(0)
            assert connection() is None
        finally:
            gc.enable()
            await client.aclose()


async def test_leaving_the_context_closes_the_connection_within_a_second() -> None:
    async with replaying(Reply([event({}), UNTIL_THE_CLIENT_LEAVES])) as replay:
        client = transport(replay)
        async with client.stream("/v1/completions", BODY) as events:
            assert await events.wait()
            started = time.monotonic()
        await asyncio.wait_for(replay.left.wait(), 1.0)
        assert time.monotonic() - started < 1.0
        await client.aclose()


async def test_a_cancelled_reader_closes_the_connection_too() -> None:
    async with replaying(Reply([event({}), UNTIL_THE_CLIENT_LEAVES])) as replay:
        client = transport(replay, timeouts=Timeouts())
        reading = asyncio.create_task(payloads(client))
        await asyncio.sleep(0.1)
        assert replay.requests
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await asyncio.wait_for(replay.left.wait(), 1.0)


async def test_a_finished_answer_gives_its_connection_back() -> None:
    async with replaying(Reply([event({}), DONE])) as replay:
        client = transport(replay)
        for _ in range(3):
            async with client.stream("/v1/completions", BODY) as events:
                await events.wait()
                events.finish()
        await client.aclose()
    assert (len(replay.requests), replay.connections) == (3, 1)


async def test_a_stalled_stream_times_out_between_tokens() -> None:
    async with replaying(Reply([event({}), UNTIL_THE_CLIENT_LEAVES])) as replay:
        with pytest.raises(UpstreamTimeout, match="no next token"):
            await payloads(transport(replay))
        await asyncio.wait_for(replay.left.wait(), 1.0)


async def test_keep_alive_comments_are_no_tokens() -> None:
    pieces: list[bytes | float] = [b": ping\n\n", 0.1] * 20
    async with replaying(Reply(pieces)) as replay:
        started = time.monotonic()
        with pytest.raises(UpstreamTimeout):
            await payloads(transport(replay))
        assert time.monotonic() - started < 1.0


async def test_a_server_that_never_answers_times_out() -> None:
    async with replaying(Reply([UNTIL_THE_CLIENT_LEAVES])) as replay:
        with pytest.raises(UpstreamTimeout):
            await payloads(transport(replay))
        client = transport(replay)
        with pytest.raises(UpstreamTimeout):
            await client.get_json("/v1/models")
        await client.aclose()


async def test_the_whole_call_has_an_end_however_steadily_it_drips() -> None:
    pieces: list[bytes | float] = [event({}), 0.1] * 30
    timeouts = Timeouts(first_token_s=0.5, between_tokens_s=0.3, total_s=0.5)
    async with replaying(Reply(pieces)) as replay:
        with pytest.raises(UpstreamTimeout):
            await payloads(transport(replay, timeouts=timeouts))


async def test_a_cut_connection_is_unreachable() -> None:
    async with replaying(Reply([event({}), b'data: {"half'], cut=True)) as replay:
        with pytest.raises(UpstreamUnreachable, match="broke"):
            await payloads(transport(replay))


async def test_an_event_cut_at_the_end_of_the_body_is_unreachable() -> None:
    async with replaying(Reply([event({}), b'data: {"half'])) as replay:
        with pytest.raises(UpstreamUnreachable):
            await payloads(transport(replay))


async def test_a_done_without_its_blank_line_is_a_clean_end() -> None:
    async with replaying(Reply([event({"n": 1}), b"data: [DONE]\n"])) as replay:
        assert await payloads(transport(replay)) == [b'{"n":1}']


async def test_nobody_listening_is_unreachable() -> None:
    async with replaying(Reply([DONE])) as replay:
        pass
    with pytest.raises(UpstreamUnreachable, match="cannot be reached"):
        await payloads(transport(replay))


async def test_the_key_is_sent_and_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with replaying(Reply([DONE])) as replay:
        await payloads(transport(replay, key="k-123"))
        await payloads(transport(replay))
    assert replay.requests[0].headers["authorization"] == "Bearer k-123"
    assert "authorization" not in replay.requests[1].headers
    async with replaying(json_reply({"data": []})) as replay:
        client = transport(replay, key="k-123")
        assert await client.get_json("/v1/models") == {"data": []}
        await client.aclose()
    assert replay.requests[0].headers["authorization"] == "Bearer k-123"


async def test_a_redirect_is_not_followed_so_the_key_stays_with_its_host() -> None:
    async with replaying(Reply([DONE])) as other:
        redirect = Reply([b""], 307, headers={"location": other.url})
        async with replaying(redirect) as replay:
            with pytest.raises(UpstreamRefused, match="redirects"):
                await payloads(transport(replay, key="k-123"))
            client = transport(replay, key="k-123")
            with pytest.raises(UpstreamRefused, match="redirects"):
                await client.get_json("/v1/models")
            await client.aclose()
        assert not other.requests


@pytest.mark.parametrize(
    ("reply", "expected", "words"),
    [
        (json_reply({"error": "Unauthorized"}, 401), UpstreamRefused, "key"),
        (json_reply(recorded("vllm/bad_model.json"), 404), UpstreamRefused, "NotFoundError"),
        (json_reply(recorded("vllm/cmpl_lp21_err.json"), 400), UpstreamRefused, "at most 20 logprobs"),
        (
            json_reply({"object": "error", "message": "secret", "type": "BadRequest", "code": 400}, 400),
            UpstreamRefused,
            "BadRequest",
        ),
        (
            json_reply({"error": {"message": "x", "type": "a secret", "code": "a secret"}}, 400),
            UpstreamRefused,
            "HTTP 400",
        ),
        (json_reply({"error": {"message": "secret"}}, 503), UpstreamBusy, "busy"),
        (json_reply({"error": "secret", "error_type": "overloaded"}, 429), UpstreamBusy, "overloaded"),
        (Reply([b"<html>secret</html>"], 502, "text/html"), UpstreamUnreachable, "HTTP 502"),
        (Reply([b'{"a": 1}\n{"error": "secret"}\n'], 200, "application/x-ndjson"), UpstreamUnreachable, "failed"),
        (json_reply({"choices": [{"text": "secret"}]}), UpstreamRefused, "does not stream"),
        (Reply([]), UpstreamUnreachable, "without an answer"),
    ],
)
async def test_error_answers_become_their_errors_without_the_upstreams_words(
    reply: Reply, expected: type[UpstreamError], words: str
) -> None:
    async with replaying(reply) as replay:
        with pytest.raises(expected) as caught:
            await payloads(transport(replay))
    assert words in caught.value.message
    assert "secret" not in caught.value.message


async def test_retry_after_is_handed_on() -> None:
    async with replaying(json_reply({}, 503, **{"retry-after": "7"})) as replay:
        with pytest.raises(UpstreamBusy) as caught:
            await payloads(transport(replay, limits=Limits(attempts=3)))
    assert caught.value.retry_after_s == 7.0
    assert len(replay.requests) == 1  # too long to wait for here


async def test_what_may_pass_is_tried_again_before_the_first_byte() -> None:
    busy = json_reply({}, 503, **{"retry-after": "0"})
    async with replaying(busy, Reply([], cut=True), Reply([DONE])) as replay:
        assert await payloads(transport(replay, limits=Limits(attempts=3))) == [b"[DONE]"]
    assert len(replay.requests) == 3


async def test_attempts_are_bounded_and_refusals_are_not_repeated() -> None:
    async with replaying(json_reply({}, 503, **{"retry-after": "0"})) as replay:
        with pytest.raises(UpstreamBusy):
            await payloads(transport(replay, limits=Limits(attempts=2)))
        assert len(replay.requests) == 2
    async with replaying(json_reply({}, 400)) as replay:
        with pytest.raises(UpstreamRefused):
            await payloads(transport(replay, limits=Limits(attempts=2)))
        assert len(replay.requests) == 1


async def test_nothing_is_repeated_after_the_first_byte() -> None:
    async with replaying(Reply([event({}), b"x"], cut=True)) as replay:
        with pytest.raises(UpstreamUnreachable):
            await payloads(transport(replay, limits=Limits(attempts=3)))
    assert len(replay.requests) == 1


async def test_an_event_without_end_is_refused() -> None:
    async with replaying(Reply([event({}), *[b"x" * 1000] * 50])) as replay:
        with pytest.raises(UpstreamUnreachable, match="larger than"):
            await payloads(transport(replay, limits=Limits(event_bytes=4096)))


async def test_reading_ahead_stops_at_its_limit_and_loses_nothing() -> None:
    pieces = [event({"n": n, "filler": "x" * 50_000}) for n in range(60)]
    async with replaying(Reply([*pieces, DONE])) as replay:
        client = transport(replay, limits=Limits(events_ahead=2))
        found: list[bytes] = []
        async with client.stream("/v1/completions", BODY) as events:
            await asyncio.sleep(0.1)
            ahead = len(events.arrived)
            while await events.wait():
                found.append(events.arrived.popleft())
        await client.aclose()
    assert 2 <= ahead <= 20  # the limit and what one read of the socket brings
    assert [orjson.loads(payload)["n"] for payload in found[:-1]] == list(range(60))


async def test_a_connection_that_the_server_dropped_while_idle_costs_no_attempt() -> None:
    async with replaying(Reply([event({}), DONE])) as replay:
        client = transport(replay, limits=ONCE)
        for _ in range(2):
            async with client.stream("/v1/completions", BODY) as events:
                await events.wait()
                events.finish()
            replay.drop_connections()
        await client.aclose()
    assert (len(replay.requests), replay.connections) == (2, 2)


async def test_past_the_limit_of_connections_the_upstream_counts_as_busy() -> None:
    async with replaying(Reply([event({}), UNTIL_THE_CLIENT_LEAVES])) as replay:
        client = transport(replay, limits=Limits(connections=1, attempts=1))
        async with client.stream("/v1/completions", BODY):
            with pytest.raises(UpstreamBusy, match="in use"):
                async with client.stream("/v1/completions", BODY):
                    pass
        async with client.stream("/v1/completions", BODY):
            pass  # the first one's place is free again
        await client.aclose()


@pytest.mark.parametrize(
    ("given", "root"),
    [
        ("http://h:1", "http://h:1"),
        ("http://h:1/", "http://h:1"),
        ("https://h/v1", "https://h"),
        ("https://h/v1/", "https://h"),
        ("https://h/api/v1", "https://h/api"),
    ],
)
def test_addresses_are_taken_with_and_without_v1(given: str, root: str) -> None:
    assert base_url(given) == root


@pytest.mark.parametrize("given", ["", "h:1", "ftp://h", "http://user:pw@h", "http://"])
def test_an_address_that_cannot_be_is_refused_without_being_quoted(given: str) -> None:
    with pytest.raises(UncorrectableUpstream) as caught:
        base_url(given)
    assert "pw" not in caught.value.message


@pytest.mark.parametrize("page", [b"<html>", b"", b'{"a":1}x', b"[" * 300 + b"1 " + b"]" * 300])
async def test_a_page_that_is_no_json_is_refused(page: bytes) -> None:
    async with replaying(Reply([page], 200, "text/html")) as replay:
        client = transport(replay)
        with pytest.raises(UpstreamRefused, match="not JSON"):
            await client.get_json("/v1/models")
        await client.aclose()


@pytest.mark.parametrize("half", [b"{", b'{"id":"cmpl-0","choices":[{"ind', b'{"choices":[]'])
async def test_half_a_document_is_one_that_was_cut_off_and_may_be_asked_for_again(half: bytes) -> None:
    async with replaying(Reply([half], 200, "application/json")) as replay:
        client = transport(replay)
        with pytest.raises(UpstreamUnreachable, match="cut off") as caught:
            await client.post_json("/v1/completions", BODY)
        assert caught.value.retryable
        await client.aclose()
