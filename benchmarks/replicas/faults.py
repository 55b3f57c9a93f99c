"""A replica stopped, a replica killed, the store killed and back empty: what answers then, and how it ends."""

import asyncio
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.replicas.proxy import unanswered
from benchmarks.replicas.store import RedisServer
from benchmarks.support.processes import Running
from benchmarks.swap.server import ADMIN_KEY, SERVED
from benchmarks.swap.site import NAMES
from benchmarks.swap.streams import Ask, Got, stream
from deltaserve.client.admin import AsyncAdminClient
from deltaserve.client.errors import ClientError
from deltaserve.server.upstream.http.transport import Limits, Transport

_LOOK_S = 0.05
_SESSIONS = 24
_GIVEN_UP_S = 60.0


@dataclass(frozen=True, slots=True)
class Fault:
    """`old`: answers of an older version that began where none may any more."""

    old: int
    took_s: float  # the activation, or the way back
    refused: bool = True  # what must be refused was
    lost: int = 0  # requests through the proxy that got no answer


async def stopped_replica(replicas: Sequence[Running], short: Ask) -> Fault:
    """One is stopped (its clients wait), another offset is activated, it runs on: it must not answer on the old one."""
    lost = replicas[-1]
    os.kill(lost.pid, signal.SIGSTOP)
    try:
        fingerprint, took_s = await _activated_another(replicas[0])
    finally:
        os.kill(lost.pid, signal.SIGCONT)
    answers = await _until_answered(lost, short)
    return Fault(_older(answers, fingerprint), took_s)


async def killed_replica(replicas: Sequence[Running], short: Ask, entrance: str | None = None) -> Fault:
    """The others' activation is answered once the dead one is surely fenced. `entrance`: a proxy, asked at once."""
    body = {**short.body(SERVED), "stream": False}
    if entrance:
        await _passes_on(entrance, body)
    os.kill(replicas[-1].pid, signal.SIGKILL)
    lost = await unanswered(entrance, body, _SESSIONS) if entrance else 0
    fingerprint, took_s = await _activated_another(replicas[0])
    answers = [got for replica in replicas[:-1] for got in await _until_answered(replica, short)]
    return Fault(_older(answers, fingerprint), took_s, lost=lost)


async def killed_store(replicas: Sequence[Running], store: RedisServer, short: Ask, contact_s: float) -> Fault:
    """Changes are refused, answers go on until the fence; a store that is back empty gets the record again."""
    fingerprint, _ = await _activated_another(replicas[0])
    store.kill()
    refused = await _refuses(replicas[0])
    before = await _ask(replicas[0], short)
    await asyncio.sleep(contact_s + 1.0)
    fenced = [await _ask(replica, short) for replica in replicas]
    store.start()
    began = time.monotonic()
    answers = [got for replica in replicas for got in await _until_answered(replica, short)]
    took_s = time.monotonic() - began
    as_told = refused and before.whole and not any(got.whole for got in fenced)
    return Fault(_older([before, *answers], fingerprint), took_s, as_told)


async def _passes_on(entrance: str, body: Mapping[str, object]) -> None:
    """Until the proxy has found all replicas ready again: what is lost before that is not the kill's."""
    until = time.monotonic() + _GIVEN_UP_S
    while lost := await unanswered(entrance, body, _SESSIONS):
        if time.monotonic() > until:
            raise RuntimeError(f"{entrance} does not pass requests on: {lost} of {_SESSIONS} without an answer")
        await asyncio.sleep(_LOOK_S)


async def _activated_another(replica: Running) -> tuple[str, float]:
    """The fingerprint of an offset that was not active, and the seconds of its activation."""
    async with AsyncAdminClient(replica.url, api_key=ADMIN_KEY) as admin:
        active = (await admin.fleet())["active"]
        began = time.monotonic()
        done = await admin.activate(next(name for name in NAMES if name != active))
    return str(done.active.fingerprint), time.monotonic() - began


async def _refuses(replica: Running) -> bool:
    async with AsyncAdminClient(replica.url, api_key=ADMIN_KEY) as admin:
        try:
            await admin.activate(NAMES[0])
        except ClientError:
            return True
    return False


async def _until_answered(replica: Running, short: Ask) -> list[Got]:
    """Every try, up to the first whole answer."""
    tries, until = [await _ask(replica, short)], time.monotonic() + _GIVEN_UP_S
    while not tries[-1].whole:
        if time.monotonic() > until:
            raise RuntimeError(f"{replica.url} does not answer again: {tries[-1].fault}")
        await asyncio.sleep(_LOOK_S)
        tries.append(await _ask(replica, short))
    return tries


async def _ask(replica: Running, short: Ask) -> Got:
    transport = Transport(replica.url, limits=Limits(attempts=1))
    try:
        return await stream(transport, short)
    finally:
        await transport.aclose()


def _older(answers: Sequence[Got], fingerprint: str) -> int:
    return sum(bool(got.fingerprints - {fingerprint}) for got in answers)
