"""One server for one state folder."""

from pathlib import Path

import pytest

from deltaserve.errors import StateFolderUnusable
from deltaserve.offset_models.files.locks import locked


def test_a_second_server_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "state"
    with locked(folder), pytest.raises(StateFolderUnusable, match="Another server"), locked(folder):
        pass
    with locked(folder):
        assert folder.is_dir()


def test_a_folder_that_cannot_be_made_is_refused_with_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateFolderUnusable, match="set state_folder"), locked(tmp_path / "file" / "state"):
        pass
