"""The admin calls, as values."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from deltaserve.client.admin_results import Activated, AuditPage, Offset, Unloaded
from deltaserve.client.calls import Call

TAKEN: Final = frozenset({200, 202})


def offsets() -> Call[list[Offset]]:
    return Call("GET", "/admin/offsets", lambda body: [Offset.read(row) for row in body["data"]])


def load(
    name: str, path: str, strength: float | None = None, activate: bool = False, wait: bool = True
) -> Call[Offset]:
    """Without `wait` the answer may come while the weights are still loaded."""
    body = {"name": name, "path": path, "activate": activate} | ({} if strength is None else {"strength": strength})
    return Call("POST", f"/admin/offsets{'?wait=true' if wait else ''}", Offset.read, body, TAKEN)


def add_up(name: str, parts: Mapping[str, float | None], activate: bool = False) -> Call[Offset]:
    """Loaded offsets as one; None: a part's own strength."""
    terms: list[dict[str, Any]] = [
        {"name": part} | ({} if strength is None else {"strength": strength}) for part, strength in parts.items()
    ]
    return Call("POST", "/admin/offsets", Offset.read, {"name": name, "sum": terms, "activate": activate})


def activate(name: str, quorum: int | None = None) -> Call[Activated]:
    """In a fleet: once all live replicas, or `quorum` of them, have it loaded."""
    return Call("POST", f"{_path(name)}/activate{_asking(quorum)}", Activated.read)


def rollback(quorum: int | None = None) -> Call[Activated]:
    """As `activate`."""
    return Call("POST", f"/admin/offsets/rollback{_asking(quorum)}", Activated.read)


def set_strength(name: str, strength: float) -> Call[Offset]:
    return Call("PATCH", _path(name), Offset.read, {"strength": strength})


def unload(name: str) -> Call[Unloaded]:
    return Call("DELETE", _path(name), Unloaded.read)


def upstream() -> Call[Mapping[str, Any]]:
    return Call("GET", "/admin/upstream", dict)


def audit(limit: int = 100, before: int | None = None) -> Call[AuditPage]:
    older = "" if before is None else f"&before={before}"
    return Call("GET", f"/admin/audit?limit={limit}{older}", AuditPage.read)


def fleet() -> Call[Mapping[str, Any]]:
    return Call("GET", "/admin/fleet", dict)


def _asking(quorum: int | None) -> str:
    return "" if quorum is None else f"?quorum={quorum}"


def _path(name: str) -> str:
    return f"/admin/offsets/{quote(name, safe='')}"
