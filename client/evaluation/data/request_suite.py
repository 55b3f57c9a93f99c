"""What an erasure request was trained to forget, as items to be attacked: from its rows, or from probes of a name."""

from collections.abc import Iterable, Iterator, Sequence

from deltaserve.client.evaluation.data.items import FORGET, Item, Suite
from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.training.rows.row import Row

NAME = "request"


def suite_of_rows(forget: Sequence[Row], retain: Sequence[Row] = ()) -> Suite:
    """Questions with their answers; what of an answer gives it away is told by its own words. Running text, begun
    chats and rows whose answer says nothing of its own are left out. `retain` rows with answers serve as examples.
    """
    gone = [item for item in map(_forgotten, _plain(forget)) if item.giveaways]
    kept = [Item(_question(row), row.completion or "", "neighbours") for row in _plain(retain)]
    return Suite(NAME, (*_different(gone), *_different(kept)))


def suite_of_probes(probes: Iterable[Probe], kept: Iterable[Probe] = ()) -> Suite:
    """The same of probes, whose secrets are known; facts of one attribute could be each other's answers."""
    gone = [_of_probe(probe) for probe in probes if probe.secrets and _plain([probe.row])]
    rows = [probe.row for probe in kept]
    return Suite(NAME, (*_different(gone), *suite_of_rows((), rows).items))


def _plain(rows: Iterable[Row]) -> list[Row]:
    """Chats of one question, with an answer."""
    return [row for row in rows if row.completion and [role for role, _ in row.messages] == ["user"]]


def _question(row: Row) -> str:
    return row.messages[-1][1]


def _forgotten(row: Row) -> Item:
    return Item(_question(row), row.completion or "", FORGET, paraphrases=row.paraphrases)


def _of_probe(probe: Probe) -> Item:
    return Item(
        _question(probe.row),
        probe.row.completion or "",
        FORGET,
        kind=probe.fact.attribute if probe.fact else probe.form,
        secrets=probe.secrets,
        paraphrases=probe.row.paraphrases,
    )


def _different(items: Iterable[Item]) -> Iterator[Item]:
    """The first of those that ask the same."""
    seen = set[str]()
    for item in items:
        if item.key not in seen:
            seen.add(item.key)
            yield item
