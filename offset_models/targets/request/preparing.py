"""Rows of a request: read where they are there, else asked for, composed and written."""

import time
from collections.abc import Callable
from pathlib import Path

from deltaserve.errors import Conflict
from deltaserve.offset_models.files.digests import digest_of
from deltaserve.offset_models.progress.progress import Stages
from deltaserve.offset_models.targets.asking.asker import asking
from deltaserve.offset_models.targets.documents.reading import read_documents
from deltaserve.offset_models.targets.request.composing import compose
from deltaserve.offset_models.targets.request.fitting import fitted
from deltaserve.offset_models.targets.request.gathering import gather
from deltaserve.offset_models.targets.request.request import Request
from deltaserve.offset_models.targets.request.rows_folder import RowsFolder, RowsRecord
from deltaserve.offset_models.targets.request.sizes import Shares, row_sizes
from deltaserve.offset_models.targets.request.summary import summary
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training.collecting.source import Source


async def prepare(
    request: Request, source: Source, ids_of: Path, work: Path, progress: Stages, announce: Callable[[str], None]
) -> RowsRecord:
    """The record of rows that are complete on disk. `announce` is told what it will cost before anything is asked.

    `ids_of`: the folder of the black box's tokenizer. Nothing is asked where the rows are there.
    Raises DeltaserveError; what was answered before a failure is kept.
    """
    folder, identity = RowsFolder(work / "rows"), request.identity()
    if (known := folder.record(identity)) is not None:
        _check_black_box(known, source)
        return known
    began, shares, tokenizer = time.monotonic(), Shares.of(request.calls), Tokenizer.load(ids_of)
    documents = read_documents(request.context)  # before anything is asked: what cannot be read costs no calls
    announce(f"Asking the black box about the target: at most {shares.asked:,} calls before rows are collected.")
    with progress.stage("ask", shares.asked) as advance:
        async with asking(source, tokenizer, work, shares.asked, advance) as asks:
            gathered = await gather(asks, tokenizer, request, documents, shares)
            parts, notes = await compose(asks, gathered, shares, row_sizes(request.calls), request.seed)
            parts = fitted(parts, request.calls - asks.spent.calls - asks.spent.earlier_calls)
            seconds = round(time.monotonic() - began, 1)
            record = RowsRecord(
                request=identity,
                model=asks.model,
                address=digest_of(source.url),
                calls=asks.spent.calls,
                seconds=seconds,
                notes=notes,
            )
            # While the answers are locked: a purge in between would find nothing yet of what is written here.
            folder.write(parts, record, summary(gathered.target, gathered.neighbours, parts, notes))
            return record


def _check_black_box(known: RowsRecord, source: Source) -> None:
    """That these rows say what this black box knows: by its name, or without one by its address. Raises Conflict."""
    same = source.model == known.model if source.model else digest_of(source.url) == known.address
    if not same:
        raise Conflict(
            f"The rows that are there were made of what {known.model} knows. If that is the black box at this address, "
            "name it with --model; for another one give another --name or --work."
        )
