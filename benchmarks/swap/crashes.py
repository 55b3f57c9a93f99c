"""kill -9 in the middle of swaps, again and again: after each, old or new, and an audit log that says which."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from benchmarks.support.processes import Running
from benchmarks.swap.server import ADMIN_KEY, kill
from benchmarks.swap.site import NAMES
from deltaserve.client.admin import AsyncAdminClient
from deltaserve.client.errors import ClientError

SHORTEST_S, LONGEST_S = 0.0, 0.6  # of swapping before the kill


@dataclass(slots=True)
class Crashed:
    kills: int = 0
    swaps: int = 0  # that were answered
    reached: dict[str, int] = field(default_factory=dict)  # what a restart found: old, new, nothing begun
    bad: list[str] = field(default_factory=list)  # a sentence for each restart that was not as it must be


@dataclass(slots=True)
class Intent:
    """The last call before the kill: which version was active, which one would have been."""

    old: str
    new: str
    answered: int = 0


async def crash(start: Callable[[], AbstractContextManager[Running]], kills: int, seed: int = 1) -> Crashed:
    """`start` gives a server that becomes ready on the same state each time, or raises."""
    chance, seen = random.Random(seed), Crashed()
    intent: Intent | None = None
    for number in range(kills + 1):  # the last start only looks
        try:
            with start() as running:
                async with AsyncAdminClient(running.url, api_key=ADMIN_KEY) as admin:
                    seen.bad += await _faults(admin, intent, seen)
                    intent = await _until_killed(admin, running, chance) if number < kills else None
        except (RuntimeError, ClientError) as error:
            seen.bad.append(f"start {number}: {error}")
            intent = None
            continue
        if intent is not None:
            seen.kills += 1
            seen.swaps += intent.answered
    return seen


async def _until_killed(admin: AsyncAdminClient, running: Running, chance: random.Random) -> Intent:
    active = next(offset.name for offset in await admin.offsets() if offset.state == "active")
    for name in NAMES:
        await admin.load(name, name)
    intent = Intent(active, active)
    swapping = asyncio.create_task(_swaps(admin, intent, chance))
    await asyncio.sleep(chance.uniform(SHORTEST_S, LONGEST_S))
    kill(running)
    await swapping
    return intent


async def _swaps(admin: AsyncAdminClient, intent: Intent, chance: random.Random) -> None:
    """Until the server is gone."""
    try:
        while True:
            intent.old = intent.new
            intent.new = chance.choice([name for name in NAMES if name != intent.old])
            await admin.activate(intent.new)
            intent.answered += 1
            intent.old = intent.new
    except ClientError:
        return


async def _faults(admin: AsyncAdminClient, intent: Intent | None, seen: Crashed) -> list[str]:
    """What is wrong with the server that came back."""
    active = next((offset for offset in await admin.offsets() if offset.state == "active"), None)
    if active is None:
        return ["no offset is active"]
    if intent is None:
        return []
    faults = []
    if active.name not in (intent.old, intent.new):
        faults.append(f"{active.name} is active, where {intent.old} or {intent.new} must be")
    found = "new" if active.name == intent.new else "old"
    seen.reached[found] = seen.reached.get(found, 0) + 1
    return faults + _audit_faults(await _whole_log(admin), active.digest)


async def _whole_log(admin: AsyncAdminClient) -> list[Mapping[str, Any]]:
    """Oldest first."""
    records: list[Mapping[str, Any]] = []
    before: int | None = None
    while True:
        page = await admin.audit(1000, before)
        records += page.records
        if (before := page.before) is None:
            return records[::-1]


def _audit_faults(records: Sequence[Mapping[str, Any]], active: str | None) -> list[str]:
    """Numbers must rise one by one, times must not fall, and the last word on what is active must be true."""
    faults = []
    if any(later["seq"] != earlier["seq"] + 1 for earlier, later in pairwise(records)):
        faults.append("the audit log has a hole or a number twice")
    if any(later["time"] < earlier["time"] for earlier, later in pairwise(records)):
        faults.append("the audit log goes back in time")
    said = [r.get("digest") for r in records if r["action"] in ("activate", "restart") and r["result"] == "ok"]
    if not said or said[-1] != active:
        faults.append("the audit log names another active version")
    return faults
