"""A fleet's state for people: a line about the record, and a table of its replicas."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from deltaserve.client.console.tables import say_table
from deltaserve.client.console.terminal import say

COLUMNS: Final = ("replica", "state", "generation", "behind", "active", "digest", "streams")


def say_status(fleet: Mapping[str, Any]) -> None:
    """What `GET /admin/fleet` answered."""
    active = fleet["active"] or "none"
    if fleet["store"] is None:
        say(f"a server by itself; active: {active}")
    else:
        say(f"generation {fleet['generation']} in {fleet['store']}; active: {active}")
    say_table(COLUMNS, [_row(replica) for replica in fleet["replicas"]])


def _row(replica: Mapping[str, Any]) -> tuple[str, ...]:
    held = replica.get("generation")
    return (
        replica["replica"],
        _state(replica),
        "" if held is None else str(held),
        _behind(replica),
        replica["active"] or "",
        (replica["digest"] or "")[:12],
        _streams(replica["streams"]),
    )


def _state(replica: Mapping[str, Any]) -> str:
    if not replica["alive"]:
        return f"gone, silent for {replica['silent_s']:.0f} s"
    return f"fenced: {replica['fenced']}" if replica["fenced"] else "answers"


def _behind(replica: Mapping[str, Any]) -> str:
    generations = replica.get("behind") or 0
    return f"{generations}, for {replica['behind_s']:.0f} s" if generations else ""


def _streams(versions: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{one['name']}: {one['streams']}" for one in versions if one["streams"])
