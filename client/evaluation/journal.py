"""What was measured so far, on disk line by line, so that an evaluation that was cut short goes on where it was."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from pydantic import ValidationError

from deltaserve.client.console.terminal import Status, Stop
from deltaserve.client.evaluation.items import Item
from deltaserve.client.evaluation.results import Measurement, SideName
from deltaserve.offset_models.files.safe_files import write_atomically


class Journal:
    """One file beside the result. Its first line says what is measured; another measurement does not go on with it."""

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self._path = path
        self._known: dict[tuple[str, str], Measurement] = {}
        self._file = self._open(orjson.dumps(about, option=orjson.OPT_SORT_KEYS))

    def has(self, side: SideName, item: Item) -> bool:
        return (side, item.digest) in self._known

    def known(self, side: SideName, item: Item) -> Measurement:
        """Raises KeyError for an item that was not measured."""
        return self._known[side, item.digest]

    def put(self, side: SideName, item: Item, measured: Measurement) -> None:
        """Kept from now on, whatever happens."""
        self._known[side, item.digest] = measured
        line = {"side": side, "item": item.digest, "measured": measured.model_dump(mode="json")}
        self._file.write(orjson.dumps(line) + b"\n")
        self._file.flush()

    def __len__(self) -> int:
        return len(self._known)

    def close(self) -> None:
        self._file.close()

    def remove(self) -> None:
        """Once the result is written."""
        self.close()
        self._path.unlink()

    def _open(self, about: bytes) -> BinaryIO:
        lines = self._path.read_bytes().split(b"\n")[:-1] if self._path.exists() else []  # a torn last line is dropped
        if lines and lines[0] != about:
            raise Stop(
                f"{self._path.name} was begun with other data, settings or servers (or another offset version). "
                "Remove it to begin anew, or name another --out.",
                Status.USAGE,
            )
        for line in lines[1:]:
            self._read(line)
        # Written anew: appending after a torn line would spoil the next one too.
        write_atomically(self._path, b"".join(line + b"\n" for line in (lines or [about])))
        return self._path.open("ab")

    def _read(self, line: bytes) -> None:
        try:
            row = orjson.loads(line)
            self._known[row["side"], row["item"]] = Measurement.model_validate(row["measured"])
        except (ValidationError, ValueError, KeyError, TypeError):
            raise Stop(f"{self._path.name} is damaged; remove it to begin anew.") from None
