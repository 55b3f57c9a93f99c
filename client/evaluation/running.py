"""A whole suite through one server or two side by side, each asked about a bounded number of items at a time."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from importlib.metadata import version
from typing import Final

from pydantic import ValidationError

from deltaserve.client.evaluation.aggregate import Splits, side_result
from deltaserve.client.evaluation.data.items import Item, Suite
from deltaserve.client.evaluation.journal import Journal
from deltaserve.client.evaluation.measuring import Subject
from deltaserve.client.evaluation.patience import together
from deltaserve.client.evaluation.results import EvaluationResult, ItemResult, Measurement, SideName

Subjects = Mapping[SideName, Subject]
Advance = Callable[[SideName], None]
VERSIONS_OF: Final = ("deltaserve", "rouge-score", "scipy", "numpy")


class Measurements:
    """What was measured of each item on each side; all of it is in the journal. Raises BadData for a damaged one."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        try:
            self._known = {
                (entry["side"], entry["item"]): Measurement.model_validate(entry["measured"])
                for entry in journal.entries
            }
        except (ValidationError, KeyError, TypeError):
            raise journal.damaged() from None

    def __contains__(self, key: tuple[SideName, Item]) -> bool:
        side, item = key
        return (side, item.digest) in self._known

    def __getitem__(self, key: tuple[SideName, Item]) -> Measurement:
        side, item = key
        return self._known[side, item.digest]

    def __setitem__(self, key: tuple[SideName, Item], measurement: Measurement) -> None:
        side, item = key
        self._known[side, item.digest] = measurement
        self._journal.add({"side": side, "item": item.digest, "measured": measurement.model_dump(mode="json")})

    def __len__(self) -> int:
        return len(self._known)


async def measure_all(
    suite: Suite, subjects: Subjects, measurements: Measurements, concurrency: int, advance: Advance
) -> dict[SideName, list[Measurement]]:
    """Every item on every side, in order; what is in `measurements` is not asked again. Raises ClientError and Stop."""
    work = []
    for side, subject in subjects.items():
        waiting = iter(suite.items)  # shared by the side's workers
        work += [_work(side, subject, waiting, measurements, advance) for _ in range(concurrency)]
    await together(work)
    return {side: [measurements[side, item] for item in suite.items] for side in subjects}


def result_of(
    suite: Suite,
    subjects: Subjects,
    measured: Mapping[SideName, list[Measurement]],
    reference: EvaluationResult | None,
    started: datetime,
) -> EvaluationResult:
    """The document. `reference`: the same suite on a model that was never trained on the forget set."""
    any_subject = next(iter(subjects.values()))
    retrained = None if reference is None else splits_of(reference)
    return EvaluationResult(
        suite=suite.name,
        data_digest=suite.digest,
        settings=any_subject.settings,
        servers={side: subject.about for side, subject in subjects.items()},
        reference=None if reference is None else reference.servers["after"],
        started=started,
        versions={name: version(name) for name in VERSIONS_OF},
        figures={side: side_result(_by_split(suite, values), retrained) for side, values in measured.items()},
        items=tuple(_items(suite, measured, any_subject.keep_text)),
    )


def splits_of(result: EvaluationResult) -> Splits:
    """What a result's server under test was measured to say, by split."""
    names = dict.fromkeys(item.split for item in result.items)
    return {name: result.measurements("after", name) for name in names}


def _by_split(suite: Suite, values: list[Measurement]) -> Splits:
    pairs = list(zip(suite.items, values, strict=True))
    names = dict.fromkeys(name for split in suite.splits for name in (split, *suite.parts(split)))
    return {name: [value for item, value in pairs if name in (item.split, item.place)] for name in names}


def _items(suite: Suite, measured: Mapping[SideName, list[Measurement]], keep_text: bool) -> Iterator[ItemResult]:
    for at, item in enumerate(suite.items):
        yield ItemResult(
            split=item.split,
            part=item.part,
            index=item.index,
            digest=item.digest,
            question=item.question if keep_text else None,
            reference=item.answer if keep_text else None,
            sides={side: values[at] for side, values in measured.items()},
        )


async def _work(
    side: SideName, subject: Subject, waiting: Iterator[Item], measurements: Measurements, advance: Advance
) -> None:
    for item in waiting:
        if (side, item) not in measurements:
            measurements[side, item] = await subject.measure(item)
        advance(side)
