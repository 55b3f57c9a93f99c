"""Training data in one place: rows as files hold them, samples as models see them."""

from deltaserve.offset_models.training.rows.loading import read_rows, write_rows
from deltaserve.offset_models.training.rows.row import BadRow, Row, digest_of_rows
from deltaserve.offset_models.training.rows.samples import Sample, encode, refused, wordings

__all__ = [
    "BadRow",
    "Row",
    "Sample",
    "digest_of_rows",
    "encode",
    "read_rows",
    "refused",
    "wordings",
    "write_rows",
]
