"""State file and audit log together: a change is on disk before anyone sees it."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from deltaserve.errors import CorruptState, Unavailable
from deltaserve.offset_models.registry.audit import AuditLog, AuditPages, Event
from deltaserve.offset_models.registry.state import RegistryState, StateFile


class Writes(Protocol):
    """Where a registry writes its changes down: in a folder of its own, or in the store of a fleet."""

    @property
    def audit(self) -> AuditPages | None:
        """The log to page through; None where nothing is kept."""

    def saved(self) -> RegistryState | None:
        """The state of the last run; None on the first one. Blocking. Raises CorruptState."""

    async def begin(self) -> None:
        """Before the first change of all."""

    def commit(self, old: RegistryState, new: RegistryState, event: Event) -> None:
        """The state and the event, or neither. Blocking. Raises Unavailable, Conflict."""

    async def record(self, event: Event) -> None:
        """An event that changes nothing. Raises Unavailable."""


class Journal:
    """Both files in `folder`; without a folder nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self._state = StateFile(folder) if folder else None
        self._audit = AuditLog(folder) if folder else None

    @property
    def audit(self) -> AuditLog | None:
        return self._audit

    def saved(self) -> RegistryState | None:
        """The state of the last run; None on the first one. Blocking. Raises CorruptState."""
        state = self._state.read() if self._state else None
        if state is None and self.audit is not None and not self.audit.empty:
            raise CorruptState(
                "The state file is missing beside an audit log; restore it, or move the log away as well."
            )
        return state

    async def begin(self) -> None:
        """A first, empty state, before anything is logged: from now on a missing file means that it was lost."""
        if self._state is not None:
            state = self._state
            await _written(lambda: state.write(RegistryState()))

    def commit(self, old: RegistryState, new: RegistryState, event: Event) -> None:
        """Both files, or neither. Blocking. Raises Unavailable when the disk refuses."""
        if self._state is None or self.audit is None:
            return
        with _refusals():
            if new != old:
                self._state.write(new)
            try:
                self.audit.append(event)
            except OSError:
                if new != old:
                    self._undo(old)
                raise

    def _undo(self, old: RegistryState) -> None:
        """Raises Unavailable when the disk keeps the new state, which is not the one in effect."""
        if self._state is None:
            return
        try:
            self._state.write(old)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise Unavailable(
                f"The registry's folder cannot be written ({reason}). The change is not in effect, but the state file "
                "has it, and a restart would make it so: make room, then repeat the change or take it back."
            ) from error

    async def record(self, event: Event) -> None:
        """One line of the audit log. Raises Unavailable when the disk refuses it."""
        if self.audit is not None:
            audit = self.audit
            await _written(lambda: audit.append(event))


async def _written(write: Callable[[], None]) -> None:
    with _refusals():
        await asyncio.to_thread(write)


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise Unavailable(f"The registry's folder cannot be written ({reason}); nothing was changed.") from error
