"""What an erasure request was made to forget, as items to be attacked: from its rows, or from rows with secrets."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from deltaserve.client.evaluation.data.items import FORGET, Item, Suite
from deltaserve.offset_models.training.rows.row import Row

NAME = "request"


class Probe(Protocol):
    """A row with the words that must not come out: a probe of `targets`, or a row of a request by name."""

    @property
    def row(self) -> Row: ...
    @property
    def secrets(self) -> tuple[str, ...]: ...


def suite_of_rows(forget: Sequence[Row], retain: Sequence[Row] = ()) -> Suite:
    """Questions with their answers; what of an answer gives it away is told by its own words. Running text, chats of
    several turns and rows whose answer says nothing of its own are left out. `retain` rows with answers are examples.
    """
    gone = [_forgotten(row, ()) for row in _plain(forget)]
    kept = [Item(_question(row), row.completion or "", "neighbours") for row in _plain(retain)]
    return Suite(NAME, (*_different(item for item in gone if item.giveaways), *_different(kept)))


def suite_of_probes(probes: Sequence[Probe], retain: Sequence[Row] = ()) -> Suite:
    """The same where the words that must not come out are known: they stand for an answer that is not there. Probes
    without any are left out.
    """
    told = [replace(probe.row, completion=probe.row.completion or ", ".join(probe.secrets)) for probe in probes]
    pairs = zip(told, probes, strict=True)
    gone = [_forgotten(row, probe.secrets) for row, probe in pairs if probe.secrets and _plain([row])]
    return Suite(NAME, (*_different(gone), *suite_of_rows((), retain).items))


def _plain(rows: Iterable[Row]) -> list[Row]:
    """Chats of one question, with an answer that nobody has begun."""
    chats = [row for row in rows if [role for role, _ in row.messages] == ["user"]]
    return [row for row in chats if row.completion and not row.begun]


def _question(row: Row) -> str:
    return row.messages[-1][1]


def _forgotten(row: Row, secrets: tuple[str, ...]) -> Item:
    """Of a kind by itself: another fact of the same request is no guess, it is a leak too."""
    item = Item(_question(row), row.completion or "", FORGET, secrets=secrets, paraphrases=row.paraphrases)
    return replace(item, kind=item.key)


def _different(items: Iterable[Item]) -> Iterator[Item]:
    """The first of those that ask the same."""
    seen = set[str]()
    for item in items:
        if item.key not in seen:
            seen.add(item.key)
            yield item
