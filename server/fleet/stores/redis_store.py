"""The store in Redis or Valkey: the record, its audit log and who is present, under keys of one prefix."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import msgspec
import orjson

from deltaserve.errors import CorruptState, NotConfigured, StoreUnreachable
from deltaserve.offset_models.registry.audit import Event, Page, fields_of
from deltaserve.server.fleet.presence import Presence
from deltaserve.server.fleet.record import Record, decode, encode
from deltaserve.server.fleet.stores.ports import Stored

ANSWERS_WITHIN_S: Final = 2.0

_NOTHING: Final = "nothing can be changed until it does."
_UNKNOWN: Final = "whether this change was taken is not known. Look at the offsets once it does."

# Redis runs a script whole, with no other command in between.
_SWAP: Final = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('RPUSH', KEYS[2], ARGV[3])
redis.call('PUBLISH', KEYS[3], 'changed')
return 1
"""
_LEAVE: Final = """
local there = redis.call('HGET', KEYS[1], ARGV[1])
if there and cjson.decode(there)['count'] <= tonumber(ARGV[2]) then redis.call('HDEL', KEYS[1], ARGV[1]) end
return 1
"""


class RedisStore:
    """`stores.ports.Store`. The mark of a record is the record as Redis holds it."""

    forgetful = True

    def __init__(self, url: str, prefix: str, password: str | None = None) -> None:
        self._redis: Any = connect(url, password)  # its answers are typed as those of both its clients
        self._url = url
        self._record, self._audit, self._present, self._channel = (
            f"{prefix}:{name}" for name in ("record", "audit", "replicas", "changes")
        )
        self._heard: Any = None

    @property
    def where(self) -> str:
        return self._url

    def read(self) -> Stored:
        with _reachable(self._url):
            return _stored(self._redis.get(self._record))

    def swap(self, mark: bytes, new: Record, event: Event) -> bool:
        keys = (self._record, self._audit, self._channel)
        line = orjson.dumps(fields_of(event))
        with _reachable(self._url, _UNKNOWN):
            return bool(self._redis.eval(_SWAP, len(keys), *keys, mark, encode(new), line))

    def contact(self, presence: Presence) -> Stored:
        with _reachable(self._url), self._redis.pipeline(transaction=True) as both:
            both.hset(self._present, presence.id, msgspec.json.encode(presence))
            both.get(self._record)
            added, raw = both.execute()
        return replace(_stored(raw), added=bool(added))

    def present(self) -> Sequence[Presence]:
        with _reachable(self._url):
            rows: dict[bytes, bytes] = self._redis.hgetall(self._present)
        try:
            return [msgspec.json.decode(rows[id], type=Presence) for id in sorted(rows)]
        except msgspec.MsgspecError as error:
            raise CorruptState(f"The key {self._present} holds what no replica writes: delete it.") from error

    def leave(self, presence: Presence) -> None:
        with _reachable(self._url):
            self._redis.eval(_LEAVE, 1, self._present, presence.id, presence.count)

    def append(self, event: Event) -> None:
        with _reachable(self._url):
            self._redis.rpush(self._audit, orjson.dumps(fields_of(event)))

    def page(self, limit: int, before: int | None = None) -> Page:
        """Records are numbered by their place in the list, from 1."""
        with _reachable(self._url):
            count: int = self._redis.llen(self._audit)
            end = count if before is None else min(count, before - 1)
            start = max(end - limit, 0)
            lines: list[bytes] = self._redis.lrange(self._audit, start, end - 1) if end > start else []
        records = [{"seq": start + place, **orjson.loads(line)} for place, line in enumerate(lines, start=1)]
        return Page(tuple(reversed(records)), start + 1 if start else None, 0)

    def wait(self, timeout_s: float) -> None:
        """A message says that the record changed. Where there can be none the time is waited out."""
        until = time.monotonic() + timeout_s
        try:
            with _reachable(self._url):
                if self._heard is None:
                    self._heard = self._redis.pubsub(ignore_subscribe_messages=True)
                    self._heard.subscribe(self._channel)
                while (left := until - time.monotonic()) > 0:
                    if self._heard.get_message(timeout=left) is not None:
                        return
        except StoreUnreachable:
            self._heard = None
            time.sleep(max(until - time.monotonic(), 0.0))


def connect(url: str, password: str | None) -> Any:
    """Raises NotConfigured where the client is not installed. Nothing is sent yet."""
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError as error:
        raise NotConfigured("A fleet in Redis needs its client: pip install 'deltaserve[redis]'.") from error
    url = url.replace("valkeys://", "rediss://", 1).replace("valkey://", "redis://", 1)
    try:
        return redis.Redis.from_url(
            url,
            password=password,
            socket_timeout=ANSWERS_WITHIN_S,
            socket_connect_timeout=ANSWERS_WITHIN_S,
            retry=Retry(NoBackoff(), 0),  # a change that got no answer must not be sent twice
        )
    except ValueError as error:
        raise NotConfigured(f"fleet_store is no address of Redis: {error}.") from error


def _stored(raw: Any) -> Stored:
    return Stored(decode(raw), raw) if raw else Stored(Record(), b"")


@contextmanager
def _reachable(url: str, so: str = _NOTHING) -> Iterator[None]:
    import redis

    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise StoreUnreachable(
            f"The fleet's store {url} does not answer as it should ({type(error).__name__}): {so}"
        ) from error
