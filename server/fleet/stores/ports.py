"""What a fleet asks of the store that holds its record. Every call blocks and may come from any thread."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from deltaserve.offset_models.registry.audit import Event, Page
from deltaserve.server.fleet.presence import Presence
from deltaserve.server.fleet.record import Record


@dataclass(frozen=True, slots=True)
class Stored:
    """A record with the mark by which the store knows it. Generation 0 where there is none."""

    record: Record
    mark: bytes
    added: bool = False  # of a contact: there was no row of this presence before


class Store(Protocol):
    """Raises StoreUnreachable, and CorruptState for content that is not a fleet's."""

    @property
    def where(self) -> str:
        """For people; no password."""

    @property
    def forgetful(self) -> bool:
        """Whether it may come back empty or older than it was."""

    def read(self) -> Stored: ...
    def swap(self, mark: bytes, new: Record, event: Event) -> bool:
        """`new` and a line of the audit log, or neither, where the record is still the one that `mark` came with."""

    def contact(self, presence: Presence) -> Stored:
        """Write the presence, then read the record; in this order, which the proof in `fleet` needs."""

    def present(self) -> Sequence[Presence]:
        """Every replica that has not left."""

    def leave(self, presence: Presence) -> None:
        """Forget a replica, if it has made no contact after this presence."""

    def append(self, event: Event) -> None:
        """A line of the audit log that changes nothing."""

    def page(self, limit: int, before: int | None = None) -> Page:
        """As `audit.AuditPages`."""

    def wait(self, timeout_s: float) -> None:
        """Until the record may have changed since the last contact, or the time is over. Never raises."""
