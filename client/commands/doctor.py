"""deltaserve doctor"""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import typer

from client.commands import shared
from client.generated import accepts
from client.server_settings import EPILOG, read_settings, setting_flags
from client.tables import say_table
from client.terminal import Status, new_app, note, quiet, say, say_json, status_of
from server.errors import DeltaserveError
from server.settings import Settings

app = new_app()


@dataclass(slots=True)
class Findings:
    """What was found, and what stands in the way."""

    offset: dict[str, Any] | None = None
    upstream: dict[str, Any] | None = None
    problems: list[str] = field(default_factory=list)
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
        parts = {"ok": not findings.problems, "problems": findings.problems}
        say_json({**parts, "offset": findings.offset, "upstream": findings.upstream})
    else:
        show(findings)
    raise typer.Exit(findings.status)


async def examine(settings: Settings) -> Findings:
    """Everything that a start needs, tried without starting. The registry's state is left alone."""
    findings = Findings()
    if not settings.upstream_url:
        findings.problem("No black box is configured: give --upstream-url (DELTASERVE_UPSTREAM_URL).")
    if settings.offset is None:
        findings.problem("No offset is configured: give --offset (DELTASERVE_OFFSET), a checkpoint folder.")
        return findings
    async with AsyncExitStack() as stack:
        registry = await _offset(settings.model_copy(update={"state_folder": None}), stack, findings)
        if registry is not None and settings.upstream_url:
            await _upstream(settings, registry, stack, findings)
    return findings


async def _offset(settings: Settings, stack: AsyncExitStack, findings: Findings) -> Any:
    from server.parts import open_registry

    try:
        registry = await open_registry(settings, stack)
        version = registry.resolve(None)
    except DeltaserveError as error:
        findings.problem(f"The offset cannot be served: {error.message}", status_of(error))
        findings.problem("The black box was not probed: its token ids are compared with the offset's tokenizer.")
        return None
    tokenizer, canary = version.tokenizer, "a finite row, not zero"
    findings.offset = {
        "name": version.name,
        "fingerprint": version.fingerprint,
        "vocab_size": tokenizer.vocab_size,
        "max_context": version.max_context,
        "canary": canary,
    }
    return registry


async def _upstream(settings: Settings, registry: Any, stack: AsyncExitStack, findings: Findings) -> None:
    from server.parts import connect_upstream

    try:
        parts = await connect_upstream(settings, registry)
    except DeltaserveError as error:
        status = status_of(error)
        findings.problem(_advised(error, status, settings), status)
        return
    stack.push_async_callback(parts.upstream.aclose)
    findings.upstream = parts.upstream.capabilities.describe()


def _advised(error: DeltaserveError, status: Status, settings: Settings) -> str:
    if status is Status.UNREACHABLE:
        return f"{error.message} Start the black box, or correct --upstream-url ({settings.upstream_url})."
    return error.message


def show(findings: Findings) -> None:
    """For people: two tables on stdout, problems on stderr."""
    for title, part in (("offset", findings.offset), ("black box", findings.upstream)):
        if part is not None:
            say_table((title, ""), [(name, _shown(value)) for name, value in part.items() if name != "notes"])
            say("")
    for remark in (findings.upstream or {}).get("notes", ()):
        note(f"Note: {remark}")
    for problem in findings.problems:
        note(f"Problem: {problem}")
    note("A server with these settings would start." if not findings.problems else "A server would not start.")


def _shown(value: Any) -> str:
    if value is None:
        return "not said"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
