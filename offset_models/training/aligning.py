"""Rows as a pair of another tokenizer reads them, kept beside the black box's lists along them.

They can be turned into text as those lists can: they lie in the same folder, and `deltaserve collect --purge` and
`deltaserve forget --about … --purge` delete both.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from deltaserve.errors import Conflict
from deltaserve.offset_models.training.bridging.reading import BridgedReading
from deltaserve.offset_models.training.collecting.cache import AlignedCache
from deltaserve.offset_models.training.collecting.collected import Collected
from deltaserve.offset_models.training.collecting.folder import read_collection, writing_in
from deltaserve.offset_models.training.rows.scored import Scored


def use_kept(reading: BridgedReading, folders: Iterable[Path]) -> None:
    """What was aligned before of the rows that these folders hold is not aligned again."""
    reading.kept = [AlignedCache(folder, reading.tokenizers) for folder in folders]


def rows_of(collected: Collected) -> list[Scored]:
    """All of them, each as often as it comes."""
    return [*collected.forget, *collected.refused, *collected.retain]


def align(
    rows: Sequence[Scored], reading: BridgedReading, folder: Path, advance: Callable[[], object] = lambda: None
) -> list[int]:
    """How many tokens of the pair each row is; what is found is kept in the folder, where the rows were collected.

    Not kept while another process writes there, and once the folder was purged. Raises BadRequest.
    """
    lengths = []
    with _writable(folder, reading) as cache:
        for row in rows:
            lengths.append(len(reading.ids(row)))
            if cache is not None:
                reading.keep(row, cache)
            advance()
    return lengths


@contextmanager
def _writable(folder: Path, reading: BridgedReading) -> Iterator[AlignedCache | None]:
    """None where nothing is to be written."""
    with ExitStack() as stack:
        cache = None
        with suppress(Conflict):
            stack.enter_context(writing_in(folder))
            record = read_collection(folder)
            if record is not None and record.complete:
                cache = AlignedCache(folder, reading.tokenizers)
                stack.callback(cache.flush)
        yield cache
