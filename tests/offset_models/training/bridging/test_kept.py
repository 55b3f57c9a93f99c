"""What was aligned before is taken for the same row along the same lists, and for nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deltaserve.offset_models.training.bridging.aligned import Aligned, Aligner
from deltaserve.offset_models.training.bridging.prompts import OtherTokenizer
from deltaserve.offset_models.training.bridging.reading import BridgedReading
from deltaserve.offset_models.training.rows.samples import Sample
from deltaserve.offset_models.training.rows.scored import TopK
from tests.offset_models.training.bridging.tiny_bridge import TinyBridge
from tests.support.bridging import END, random_bpe

BPE = random_bpe(3)
SAMPLE = Sample((1,), (*BPE.encode(b"abba"), END))


class OnDisk(dict[bytes, Any]):
    put = dict.__setitem__


def lists(first: int) -> TopK:
    ids = np.tile(np.arange(first, first + 3), (len(SAMPLE.answer_ids), 1))
    return TopK(ids, np.zeros(ids.shape, np.float32))


def reading(kept: OnDisk, prompt: tuple[int, ...] = (1,)) -> BridgedReading:
    box = OtherTokenizer(Path("box"), {(1,): list(prompt)}, Path("tables"))
    bridge: Any = TinyBridge(BPE, BPE)
    return BridgedReading(bridge, box, [kept])


@pytest.fixture
def aligned(monkeypatch: pytest.MonkeyPatch) -> list[Sample]:
    """What is aligned anew."""
    samples: list[Sample] = []
    align = Aligner.align

    def counted(self: Aligner, sample: Sample, top: TopK | None) -> Aligned:
        samples.append(sample)
        return align(self, sample, top)

    monkeypatch.setattr(Aligner, "align", counted)
    return samples


def test_a_row_that_was_kept_is_not_aligned_again(aligned: list[Sample]) -> None:
    disk, row = OnDisk(), (SAMPLE, lists(1))
    first = reading(disk)
    first.keep(row, disk)
    again = reading(disk)
    assert (again.ids(row), again.places(row)) == (first.ids(row), first.places(row))
    assert aligned == [SAMPLE]
    again.keep(row, disk)
    assert len(disk) == 1


def test_other_lists_along_a_row_are_aligned_anew_and_kept_instead(aligned: list[Sample]) -> None:
    disk = OnDisk()
    reading(disk).keep((SAMPLE, lists(1)), disk)
    reading(disk).keep((SAMPLE, lists(2)), disk)
    reading(disk).ids((SAMPLE, lists(2)))
    assert len(aligned) == 2
    reading(disk).ids((SAMPLE, lists(1)))
    assert len(aligned) == 3


def test_another_prompt_of_the_pair_is_another_row(aligned: list[Sample]) -> None:
    disk, row = OnDisk(), (SAMPLE, lists(1))
    reading(disk).keep(row, disk)
    assert reading(disk, (1, 2)).ids(row)[:2] == [1, 2]
    assert len(aligned) == 2
