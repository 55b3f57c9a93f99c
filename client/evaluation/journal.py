"""What was measured so far, one JSON line each, so that a run that was cut off goes on where it stopped."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from deltaserve.client.evaluation.data.reading import BadData
from deltaserve.offset_models.files.json_lines import DamagedLines, JsonLines


class OtherRun(BadData):
    """The journal belongs to another measurement."""


class Journal:
    """An append-only file beside the result. Its first line says what is measured. Use it as a context manager."""

    def __init__(self, out: Path, run: Mapping[str, Any]) -> None:
        """Reads what an earlier run of the same kind left at OUT.partial. Raises OtherRun, or BadData for damage."""
        self.path = out.with_name(f"{out.name}.partial")
        try:
            self._lines = JsonLines(self.path)
        except DamagedLines:
            raise self.damaged() from None
        known = orjson.loads(orjson.dumps(run))
        self._lines.objects = self._lines.objects or [known]
        if self._lines.objects[0] != known:
            raise OtherRun(
                f"{self.path.name} was begun with other data, settings or servers (or another offset version). "
                "Remove it to begin anew, or name another --out."
            )

    @property
    def entries(self) -> list[dict[str, Any]]:
        """All that was added, in this run or the one before."""
        return self._lines.objects[1:]

    def __enter__(self) -> Self:
        """Opens the file, so that entries can be added."""
        self._lines.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()

    def add(self, entry: Mapping[str, Any]) -> None:
        """Writes the entry to disk at once."""
        self._lines.add(dict(entry))

    def remove(self) -> None:
        """Deletes the file; the result is written."""
        self.path.unlink(missing_ok=True)

    def damaged(self) -> BadData:
        """The error for an entry that cannot be read."""
        return BadData(f"{self.path.name} is damaged; remove it to begin anew.")
