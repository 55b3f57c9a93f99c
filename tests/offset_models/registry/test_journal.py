"""State and audit log change together, and when the disk refuses both the error says which of them did."""

from pathlib import Path
from typing import Any

import pytest

from deltaserve.errors import Unavailable
from deltaserve.offset_models.registry.audit import AuditLog
from deltaserve.offset_models.registry.journal import Journal
from deltaserve.offset_models.registry.state import RegistryState, StateFile

pytestmark = pytest.mark.anyio
EVENT: Any = object()  # which nobody gets to write


def full(*_: Any) -> None:
    raise OSError(28, "No space left on device")


async def test_a_log_that_cannot_be_written_takes_the_state_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, old, new = await begun(tmp_path), RegistryState(), RegistryState(active="a")
    monkeypatch.setattr(AuditLog, "append", full)
    with pytest.raises(Unavailable, match="nothing was changed"):
        journal.commit(old, new, EVENT)
    assert journal.saved() == old


async def test_a_state_that_cannot_be_undone_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, old, new = await begun(tmp_path), RegistryState(), RegistryState(active="a")
    write = StateFile.write
    monkeypatch.setattr(AuditLog, "append", full)
    monkeypatch.setattr(StateFile, "write", lambda file, state: full() if state == old else write(file, state))
    with pytest.raises(Unavailable, match="a restart would make it so"):
        journal.commit(old, new, EVENT)
    assert journal.saved() == new


async def begun(folder: Path) -> Journal:
    journal = Journal(folder)
    await journal.begin()
    return journal
