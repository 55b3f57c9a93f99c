"""Training data in one place: rows as files hold them, samples as models see them."""

from offset_models.training.loading import read_rows, write_rows
from offset_models.training.rows import BadRow, Row, digest_of_rows
from offset_models.training.samples import Sample, encode, refused, wordings

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
