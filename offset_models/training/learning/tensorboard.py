"""The figures of a run for TensorBoard."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from deltaserve.errors import BadRequest
from deltaserve.offset_models.training.learning.trainer import Report


@contextmanager
def tensorboard(folder: Path, first_step: int) -> Iterator[Report]:
    """A report that writes event files; what an earlier run wrote from `first_step` on is dropped by the viewer.

    Raises BadRequest when TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise BadRequest("Event files need TensorBoard: pip install 'deltaserve[train]'.") from error
    writer = SummaryWriter(str(folder), purge_step=first_step)

    def tell(step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, step)

    try:
        yield tell
    finally:
        writer.close()
