"""deltaserve offsets list|status|load|activate|rollback|strength|unload|sum|audit: offsets of a running server."""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer

from deltaserve.client.address import ADMIN_KEY_VARIABLE, URL_VARIABLE, resolve
from deltaserve.client.admin import AdminClient
from deltaserve.client.admin_results import Activated, Offset
from deltaserve.client.console import shared
from deltaserve.client.console.fleet import say_status
from deltaserve.client.console.tables import say_table
from deltaserve.client.console.terminal import Status, Stop, note, say, say_json

MAX_STRENGTH: Final = 16  # either way

Server = Annotated[
    str | None, typer.Option("--server", help=f"The server; else {URL_VARIABLE}, else http://127.0.0.1:8000.")
]
AdminKey = Annotated[
    str | None,
    typer.Option(
        "--admin-key", help=f"Admin key of this server; else {ADMIN_KEY_VARIABLE}, which goes to {URL_VARIABLE} only."
    ),
]
Quorum = Annotated[
    int | None,
    typer.Option(min=1, help="In a fleet: so many replicas with it loaded are enough; default: all that are alive."),
]
Name = Annotated[str, typer.Argument(help="The offset's name on the server.")]

COLUMNS: Final = ("name", "state", "strength", "streams", "memory", "digest", "loaded at", "reason")
MIB: Final = 2**20


def list_offsets(server: Server = None, admin_key: AdminKey = None, as_json: shared.AsJson = False) -> None:
    """Show every version, and every load that runs or failed."""
    with _client(server, admin_key) as client:
        offsets = client.offsets()
    if as_json:
        say_json([asdict(offset) for offset in offsets])
    else:
        say_table(COLUMNS, [_row(offset) for offset in offsets])


def load(
    name: Name,
    path: Annotated[str, typer.Argument(help="The checkpoint's folder under the server's offsets root.")],
    strength: Annotated[
        float | None, typer.Option(min=-MAX_STRENGTH, max=MAX_STRENGTH, help="Default: the checkpoint's own.")
    ] = None,
    activate: Annotated[bool, typer.Option("--activate", help="Make it the active one once it is there.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until it is loaded, or refused.")] = True,
    server: Server = None,
    admin_key: AdminKey = None,
    as_json: shared.AsJson = False,
) -> None:
    """Load a checkpoint beside the running one."""
    with _client(server, admin_key) as client:
        _say_offset(client.load(name, path, strength, activate, wait), as_json)


def status(server: Server = None, admin_key: AdminKey = None, as_json: shared.AsJson = False) -> None:
    """Show every replica of a fleet: what it holds, how far it is behind, and the streams on each version."""
    with _client(server, admin_key) as client:
        fleet = client.fleet()
    if as_json:
        say_json(fleet)
    else:
        say_status(fleet)


def activate(
    name: Name,
    quorum: Quorum = None,
    server: Server = None,
    admin_key: AdminKey = None,
    as_json: shared.AsJson = False,
) -> None:
    """Let new requests use an offset; running ones keep theirs. In a fleet it returns when no replica answers on the
    offset that was active before.
    """
    with _client(server, admin_key) as client:
        _say_activated(client.activate(name, quorum), as_json)


def rollback(
    quorum: Quorum = None, server: Server = None, admin_key: AdminKey = None, as_json: shared.AsJson = False
) -> None:
    """Go back to the offset that was active before."""
    with _client(server, admin_key) as client:
        _say_activated(client.rollback(quorum), as_json)


def strength(
    name: Name,
    value: Annotated[
        float, typer.Argument(help="How much of the offset is applied.", min=-MAX_STRENGTH, max=MAX_STRENGTH)
    ],
    server: Server = None,
    admin_key: AdminKey = None,
    as_json: shared.AsJson = False,
) -> None:
    """Make a new version of an offset at another strength."""
    with _client(server, admin_key) as client:
        _say_offset(client.set_strength(name, value), as_json)


def unload(name: Name, server: Server = None, admin_key: AdminKey = None, as_json: shared.AsJson = False) -> None:
    """Take an offset that is not active out of service; its memory goes with its last stream."""
    with _client(server, admin_key) as client:
        done = client.unload(name)
    if as_json:
        say_json(asdict(done))
    else:
        say(f"{done.name}: {done.state}")


def add_up(
    name: Name,
    parts: Annotated[list[str], typer.Argument(help="Loaded offsets: NAME, or NAME=STRENGTH.")],
    activate: Annotated[bool, typer.Option("--activate", help="Make it the active one.")] = False,
    server: Server = None,
    admin_key: AdminKey = None,
    as_json: shared.AsJson = False,
) -> None:
    """Make one offset of several that are loaded: the sum of their logit offsets."""
    with _client(server, admin_key) as client:
        _say_offset(client.add_up(name, _parts(parts), activate), as_json)


def audit(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most this many records.")] = 50,
    before: Annotated[int | None, typer.Option(min=1, help="Only records older than this number.")] = None,
    server: Server = None,
    admin_key: AdminKey = None,
    as_json: shared.AsJson = False,
) -> None:
    """Show who changed what and when, newest first."""
    with _client(server, admin_key) as client:
        page = client.audit(limit, before)
    if as_json:
        say_json(asdict(page))
        return
    columns = ("seq", "time", "action", "version", "digest", "key_id", "request_id", "result", "reason")
    say_table(columns, [_cells(record, columns) for record in page.records])
    if page.before is not None:
        say(f"older ones: --before {page.before}")


def add_to(app: typer.Typer) -> None:
    """The commands of a running server, into the group `offsets`."""
    for name, command in COMMANDS.items():
        app.command(name)(command)


COMMANDS: Final[dict[str, Callable[..., None]]] = {
    "list": list_offsets,
    "status": status,
    "load": load,
    "activate": activate,
    "rollback": rollback,
    "strength": strength,
    "unload": unload,
    "sum": add_up,
    "audit": audit,
}


def _client(server: str | None, admin_key: str | None) -> AdminClient:
    address = resolve(server, admin_key, os.environ, ADMIN_KEY_VARIABLE)
    if address.key is None:
        raise Stop(f"Give the server's admin key: --admin-key, or {ADMIN_KEY_VARIABLE}.", Status.USAGE)
    return AdminClient.at(address)


def _parts(given: Sequence[str]) -> dict[str, float | None]:
    """Strengths by name, None for a part's own strength. Strengths of a part that is named twice are added."""
    parts: dict[str, float | None] = {}
    for part in given:
        name, stated, value = part.partition("=")
        strength = _strength(part, value) if stated else None
        if name not in parts:
            parts[name] = strength
            continue
        before = parts[name]
        if before is None or strength is None:
            raise Stop(f"{name} is named twice: give each of its parts a strength, and they add up.", Status.USAGE)
        parts[name] = before + strength
        note(f"{name} is named several times: its strengths add up to {before + strength:g}.")
    return parts


def _strength(part: str, value: str) -> float:
    try:
        strength = float(value)
    except ValueError:
        raise Stop(f"{part}: a part is NAME or NAME=STRENGTH.", Status.USAGE) from None
    if not -MAX_STRENGTH <= strength <= MAX_STRENGTH:
        raise Stop(f"{part}: a strength is a number from -{MAX_STRENGTH} to {MAX_STRENGTH}.", Status.USAGE)
    return strength


def _say_offset(offset: Offset, as_json: bool) -> None:
    if as_json:
        say_json(asdict(offset))
    else:
        say(f"{offset.name}: {offset.state}" + (f", {offset.fingerprint}" if offset.fingerprint else ""))


def _say_activated(done: Activated, as_json: bool) -> None:
    if as_json:
        say_json(asdict(done))
    else:
        before = f" (before: {done.previous})" if done.previous else ""
        say(f"{done.active.name}: active, {done.active.fingerprint}{before}")
        if done.fleet is not None:
            fenced = f"; answering nothing until they do: {', '.join(done.fleet.fenced)}" if done.fleet.fenced else ""
            say(f"generation {done.fleet.generation}, held by {', '.join(done.fleet.holds)}{fenced}")


def _row(offset: Offset) -> tuple[str, ...]:
    memory = "" if offset.memory_bytes is None else f"{offset.memory_bytes / MIB:.1f} MiB"
    loaded = "" if offset.loaded_at is None else f"{datetime.fromtimestamp(offset.loaded_at, UTC):%Y-%m-%dT%H:%M:%SZ}"
    plain = (offset.name, offset.state, *_texts(offset.strength, offset.streams), memory)
    return (*plain, (offset.digest or "")[:12], loaded, offset.reason or "")


def _texts(*values: object) -> tuple[str, ...]:
    return tuple("" if value is None else f"{value}" for value in values)


def _cells(record: Any, columns: Sequence[str]) -> tuple[str, ...]:
    row = {**record, "digest": str(record.get("digest") or "")[:12]}
    return _texts(*(row.get(column) for column in columns))
