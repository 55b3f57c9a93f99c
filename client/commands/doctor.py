"""deltaserve doctor"""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import typer

from deltaserve.client.client import AsyncClient
from deltaserve.client.console import shared
from deltaserve.client.console.generated import accepts
from deltaserve.client.console.server_settings import EPILOG, read_settings, setting_flags
from deltaserve.client.console.tables import say_table
from deltaserve.client.console.terminal import Status, new_app, note, quiet, say, say_json, status_of
from deltaserve.client.errors import ClientError
from deltaserve.errors import AddressUnusable, DeltaserveError, NotConfigured
from deltaserve.server import preflight
from deltaserve.server.addresses import bound, close
from deltaserve.server.settings import Settings

app = new_app()
NOT_PROBED: Final = "The black box was not probed: its token ids are compared with the offset's tokenizer."
SAME: Final = "the black box's: a row of the pair for each token"
BRIDGED: Final = "not the black box's: bridged, a few rows of the pair for each token (docs/bridge.md)"


@dataclass(slots=True)
class Findings:
    """What was examined, and the problems that would stop a start."""

    offset: dict[str, Any] | None = None
    upstream: dict[str, Any] | None = None
    members: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    status: Status = Status.OK

    def problem(self, sentence: str, status: Status = Status.FAILED) -> None:
        self.problems.append(sentence)
        self.status = max(self.status, status)


@app.command(epilog=EPILOG)
@accepts(setting_flags())
def doctor(as_json: shared.AsJson = False, **values: Any) -> None:
    """Check settings, offset and black box; say what to do.

    Takes the options of `serve`. The offset is verified, loaded and asked for a canary row, as a start would do it; the
    black box is probed with a few tiny requests, and its token ids are compared with the offset's tokenizer.
    """
    settings = read_settings(values)
    quiet()
    findings = asyncio.run(examine(settings))
    if as_json:
        parts = {"ok": not findings.problems, "problems": findings.problems, "notes": findings.notes}
        say_json({**parts, "offset": findings.offset, "upstream": findings.upstream, "members": findings.members})
    else:
        show(findings)
    raise typer.Exit(findings.status)


# Nothing is written down, and no fleet is joined.
_BY_ITSELF: Final = {"state_folder": None, "admin_key": None, "watch_offsets": False, "fleet_store": None}


async def examine(settings: Settings) -> Findings:
    """Tries everything that a start needs, without starting. The registry's state is not touched."""
    findings = Findings()
    await _look(settings, findings)
    wrong_offset = await preflight.faults(settings, (preflight.check_offset,))
    wrong_upstream = await preflight.faults(settings, (preflight.check_upstream,))
    for error in wrong_offset:
        findings.problem(_of_offset(error), status_of(error))
    for error in wrong_upstream:
        findings.problem(preflight.advised(error, settings), status_of(error))
    if settings.offset is None:
        findings.notes += [] if wrong_offset else ["No offset is named: the server would wait until one is loaded."]
        return findings
    if wrong_offset:
        findings.problem(NOT_PROBED)
        return findings
    async with AsyncExitStack() as stack:
        registry = await _offset(settings.model_copy(update=_BY_ITSELF), stack, findings)
        if registry is not None and not wrong_upstream:
            await _upstream(settings, registry, stack, findings)
    return findings


async def _look(settings: Settings, findings: Findings) -> None:
    """Checks the file of keys, ports and the state folder.

    It is no problem when a server with these settings uses them already.
    """
    for error in await preflight.faults(settings, (preflight.check_keys,)):
        findings.problem(error.message, status_of(error))
    taken = [*_ports(settings), *await preflight.faults(settings, (preflight.check_state_unchanged,))]
    if taken and await _answers(settings):
        findings.notes.append(f"A deltaserve server answers on port {settings.port} already; another needs another.")
        return
    for error in taken:
        findings.problem(error.message, status_of(error))


def _ports(settings: Settings) -> Iterator[DeltaserveError]:
    for place in preflight.addresses(settings):
        try:
            close(bound(*place))
        except AddressUnusable as error:
            yield error


async def _answers(settings: Settings) -> bool:
    """Whether a deltaserve listens where this one would."""
    host = "127.0.0.1" if settings.host in ("", "0.0.0.0", "::") else settings.host
    try:
        async with AsyncClient(f"http://{f'[{host}]' if ':' in host else host}:{settings.port}", timeout_s=1) as client:
            await client.health()
    except ClientError:
        return False
    return True


def _of_offset(error: DeltaserveError) -> str:
    return error.message if isinstance(error, NotConfigured) else f"The offset cannot be served: {error.message}"


async def _offset(settings: Settings, stack: AsyncExitStack, findings: Findings) -> Any:
    from deltaserve.server.wiring import open_here

    try:
        registry = await open_here(settings, stack)
        version = registry.registry.resolve(None)
    except DeltaserveError as error:
        findings.problem(_of_offset(error), status_of(error))
        findings.problem(NOT_PROBED)
        return None
    tokenizer, canary = version.tokenizer, "a finite row, not zero"
    findings.offset = {
        "name": version.name,
        "fingerprint": version.fingerprint,
        "vocab_size": tokenizer.vocab_size,
        "tokenizer": SAME if version.pair_tokenizer is None else BRIDGED,
        "max_context": version.max_context,
        "max_streams": registry.max_streams,
        "canary": canary,
    }
    return registry


async def _upstream(settings: Settings, registry: Any, stack: AsyncExitStack, findings: Findings) -> None:
    from deltaserve.server.upstream.exactness import exactness
    from deltaserve.server.wiring import NAMES_NOTHING, connect_upstream

    try:
        parts = await connect_upstream(settings, registry)
    except DeltaserveError as error:
        findings.problem(preflight.advised(error, settings), status_of(error))
        return
    stack.push_async_callback(parts.upstream.aclose)
    facts = parts.upstream.capabilities
    findings.upstream = {**facts.describe(), "exactness": exactness(facts)}
    if settings.policy.naming is not None and not facts.named_ids:
        findings.notes.append(NAMES_NOTHING)
    findings.members = parts.upstream.members()
    away = [member for member in findings.members if member["state"] == "absent"]
    findings.notes += [f"{member['name']} would not serve yet: {member['fault']}" for member in away]


def show(findings: Findings) -> None:
    """For people: two tables on stdout, problems on stderr."""
    black_box = dict(findings.upstream or {})
    meaning = black_box.pop("exactness", None)
    for title, part in (("offset", findings.offset), ("black box", black_box), ("what that means", meaning)):
        if part:
            say_table((title, ""), [(name, _text(value)) for name, value in part.items() if name != "notes"])
            say("")
    if len(findings.members) > 1:
        rows = [(member["name"], member["state"], member["fault"] or "") for member in findings.members]
        say_table(("black boxes", "", ""), rows)
        say("")
    for remark in (*findings.notes, *(findings.upstream or {}).get("notes", ())):
        note(f"Note: {remark}")
    for problem in findings.problems:
        note(f"Problem: {problem}")
    note("A server with these settings would start." if not findings.problems else "A server would not start.")


def _text(value: Any) -> str:
    if value is None:
        return "not said"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
