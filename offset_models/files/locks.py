"""A lock on a folder: two servers in one would overwrite each other's state and number audit lines twice."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from deltaserve.errors import StateFolderUnusable

LOCK_FILE: Final = "lock"
_TAKEN: Final = {
    False: "Another server uses the state folder {folder}; give each server its own state_folder.",
    True: "A server that is not part of a fleet uses the state folder {folder}: end it before the fleet starts.",
}


@contextmanager
def locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """The folder, made where it is missing, for this process alone; the system lets go when the process ends, however.

    `shared`: for this one and others that share it. Raises StateFolderUnusable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK_FILE).open("ab")
    except OSError as error:
        raise StateFolderUnusable(
            f"The state folder {folder} cannot be written ({error.strerror}); set state_folder to one that can."
        ) from error
    with file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            raise StateFolderUnusable(_TAKEN[shared].format(folder=folder)) from error
        yield
