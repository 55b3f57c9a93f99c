"""State file and audit log together: a change is on disk before anyone sees it."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from offset_models.audit import AuditLog, Event
from offset_models.state import RegistryState, StateFile
from server.errors import CorruptState, Unavailable


class Journal:
    """Both files in `folder`; without a folder nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self._state = StateFile(folder) if folder else None
        self.audit = AuditLog(folder) if folder else None

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

    async def commit(self, old: RegistryState, new: RegistryState, event: Event) -> None:
        """Both files, or neither: raises Unavailable when the disk refuses."""
        if self._state is None or self.audit is None:
            return
        state, audit = self._state, self.audit

        def write() -> None:  # in one go: each way to a thread and back waits for the engine's
            if new != old:
                state.write(new)
            try:
                audit.append(event)
            except OSError:
                if new != old:
                    state.write(old)
                raise

        await _written(write)

    async def record(self, event: Event) -> None:
        """One line of the audit log. Raises Unavailable when the disk refuses it."""
        if self.audit is not None:
            audit = self.audit
            await _written(lambda: audit.append(event))


async def _written(write: Callable[[], None]) -> None:
    try:
        await asyncio.to_thread(write)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise Unavailable(f"The registry's folder cannot be written ({reason}); nothing was changed.") from error
