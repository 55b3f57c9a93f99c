"""The attack suite: every attack on every item against each side, then a verdict. All through the public API."""

import asyncio
import platform
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, TypeVar

from deltaserve.client.evaluation.attacks.base import Attack, Field, Finding
from deltaserve.client.evaluation.attacks.items import Item, Split, Suite, sample
from deltaserve.client.evaluation.attacks.leakage_schema import (
    KeptAnswer,
    LeakageReport,
    Outcome,
    OverRefusal,
    SideInfo,
    Timing,
)
from deltaserve.client.evaluation.attacks.table import ATTACKS
from deltaserve.client.evaluation.attacks.timing import told_apart, watched
from deltaserve.client.evaluation.attacks.verdict import MARGIN, SERVED, attack_result, verdict
from deltaserve.client.evaluation.metrics.exactness import between, counters
from deltaserve.client.evaluation.metrics.over_refusal import SCORED, Asking, kept_items, summary
from deltaserve.client.evaluation.metrics.refusals import RefusalJudge
from deltaserve.client.evaluation.side import Blocked, Side
from deltaserve.client.evaluation.side_journal import Journal, write_atomically
from deltaserve.errors import BadRequest

T = TypeVar("T")
LONGEST_TEXT: Final = 400  # characters of an example
Progress = Callable[[int, int, str], None]  # done, of how many, what


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How much is tried. Two runs with other settings are not compared."""

    items: int = 24  # forgotten items
    costly_items: int = 6  # of attacks that draw many answers
    samples: int = 100  # answers of such an attack, per item
    max_tokens: int = 48
    kept: int = 24  # kept items of each split
    timed: int = 16  # streamed answers of each kind
    texts: bool = True  # keep examples of what was said
    attacks: str = ""  # names of those that are run, comma separated; empty: all

    def chosen(self) -> tuple[Attack, ...]:
        """Raises BadRequest for a name that no attack has."""
        names = [name for part in self.attacks.split(",") if (name := part.strip())]
        known = {attack.name for attack in ATTACKS}
        if unknown := [name for name in names if name not in known]:
            raise BadRequest(f"There is no attack {unknown[0]!r}; there are: {', '.join(sorted(known))}.")
        return tuple(attack for attack in ATTACKS if not names or attack.name in names)


@dataclass(frozen=True, slots=True)
class Address:
    url: str
    key: str | None = None


@dataclass
class Run:
    """One run over all sides."""

    suite: Suite
    settings: Settings
    sides: dict[str, Side]
    journal: Journal
    progress: Progress
    began: float = field(default_factory=time.monotonic)

    async def report(self) -> LeakageReport:
        """Whatever the journal does not hold yet is done now. Raises UpstreamError branch errors."""
        await self._attack()
        served = {name: side for name, side in self.sides.items() if name in SERVED}
        start = {name: await counters(side) for name, side in served.items()}
        timing = await self._timing()
        over = await self._over_refusal()
        exact = {name: between(start[name], await counters(side)) for name, side in served.items()}
        outcomes = [Outcome.model_validate(e["outcome"]) for e in self.journal.entries if "outcome" in e]
        items = {item.key: item for item in self.suite.items}
        results = [
            attack_result(attack, found, items)
            for attack in ATTACKS
            if (found := [outcome for outcome in outcomes if outcome.attack == attack.name])
        ]
        return LeakageReport(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            suite=self.suite.name,
            suite_digest=self.suite.digest,
            items=len(sample(self.suite.forget, self.settings.items)),
            settings=asdict(self.settings),
            margin=MARGIN,
            sides={n: SideInfo(model=s.model, fingerprint=s.fingerprint, calls=s.calls) for n, s in self.sides.items()},
            attacks=results,
            timing=timing,
            over_refusal=over,
            exactness={name: one for name, one in exact.items() if one is not None},
            verdict=verdict(results, timing, over),
            seconds=round(time.monotonic() - self.began, 1),
            versions=versions(),
        )

    def _jobs(self) -> Iterator[tuple[str, Attack, Item]]:
        for attack in self.settings.chosen():
            count = self.settings.costly_items if attack.costly else self.settings.items
            for item in sample(self.suite.forget, count):
                for name in self.sides:
                    if name in SERVED or not attack.served_only:
                        yield name, attack, item

    async def _attack(self) -> None:
        done = {
            (found["side"], found["attack"], found["item"])
            for entry in self.journal.entries
            if (found := entry.get("outcome"))
        }
        jobs = list(self._jobs())
        left = [job for job in jobs if (job[0], job[1].name, job[2].key) not in done]
        finished = len(jobs) - len(left)

        async def one(name: str, attack: Attack, item: Item) -> None:
            nonlocal finished
            outcome = await self._outcome(name, attack, item)
            self.journal.add({"outcome": outcome.model_dump()})
            finished += 1
            self.progress(finished, len(jobs), attack.name)

        for attack in ATTACKS:
            await together(one(*job) for job in left if job[1] is attack)

    async def _outcome(self, name: str, attack: Attack, item: Item) -> Outcome:
        side = self.sides[name]
        try:
            finding = await attack.run(Field(side, self.suite, self.settings.samples, self.settings.max_tokens), item)
        except Blocked as blocked:
            return Outcome(side=name, attack=attack.name, item=item.key, blocked=blocked.reason)
        return outcome_of(finding, name, attack, item, self.suite.swapped(item), texts=self.settings.texts)

    async def _timing(self) -> dict[str, Timing]:
        """One stream at a time, with nothing else under way."""
        found: dict[str, Timing] = {}
        forgotten = sample(self.suite.forget, self.settings.timed)
        kept = sample(self.suite.split("neighbours"), self.settings.timed)
        for name, side in self.sides.items():
            earlier = next((e["timing"] for e in self.journal.entries if e.get("timed") == name), None)
            if earlier is None:
                self.progress(0, 1, f"timing of {name}")
                earlier = told_apart(await watched(side, forgotten), await watched(side, kept)).model_dump()
                self.journal.add({"timed": name, "timing": earlier})
            found[name] = Timing.model_validate(earlier)
        return found

    async def _over_refusal(self) -> dict[str, list[OverRefusal]]:
        if "before" not in self.sides:
            return {}
        served = [name for name in self.sides if name in SERVED]
        return {
            name: [await self._split(name, split, items) for split, items in kept_items(self.suite).items()]
            for name in served
        }

    async def _split(self, name: str, split: Split, items: Sequence[Item]) -> OverRefusal:
        asking = Asking(self.sides["before"], self.sides[name], self.suite, RefusalJudge.of(self.suite.refusals))
        known = {e["kept"]["item"]: e["kept"] for e in self.journal.entries if e.get("kept_of") == name}
        chosen = sample(items, self.settings.kept)

        async def one(at: int, item: Item) -> KeptAnswer:
            if item.key in known:
                return KeptAnswer.model_validate(known[item.key])
            answer = await asking.kept(item, scored=at < SCORED)
            if not self.settings.texts:
                answer = answer.model_copy(update={"before": "", "after": "", "question": ""})
            self.journal.add({"kept_of": name, "kept": answer.model_dump()})
            return answer

        self.progress(0, len(chosen), f"over-refusal: {split}")
        return summary(split, await together(one(at, item) for at, item in enumerate(chosen)))


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All results, in order; the first error ends the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def outcome_of(
    finding: Finding, side: str, attack: Attack, item: Item, other: Item | None, *, texts: bool = True
) -> Outcome:
    """What a finding says: whose secret came out, the item's own or one that only a guess could give."""
    telling = [item.given_away(one.text, one.begun) for one in finding.tries]
    guessed = finding.swapped
    if other is not None and finding.leaked is None:
        guessed = any(other.given_away(one.text, one.begun) for one in finding.tries)
    shown = [one.text for one, tells in zip(finding.tries, telling, strict=True) if tells or not any(telling)]
    return Outcome(
        side=side,
        attack=attack.name,
        item=item.key,
        leaked=any(telling) if finding.leaked is None else finding.leaked,
        swapped=guessed,
        tries=len(finding.tries),
        leaking_tries=sum(telling),
        figures=dict(finding.figures),
        text=shown[0][:LONGEST_TEXT] if shown and texts else None,
    )


async def measure(
    suite: Suite, addresses: Mapping[str, Address], settings: Settings, out: Path, progress: Progress
) -> LeakageReport:
    """The whole suite; writes `out`. A run that was cut off goes on from `out` + ".partial".

    Raises errors of the UpstreamError branch when a side cannot be reached; BadRequest when what is left of an earlier
    run is of another one.
    """
    settings.chosen()
    async with AsyncExitStack() as stack:
        sides = {
            name: await stack.enter_async_context(Side.reached(name, address.url, address.key))
            for name, address in addresses.items()
        }
        run = {"suite": suite.digest, "settings": asdict(settings), "sides": await _identities(sides)}
        journal = stack.enter_context(Journal(out.with_name(f"{out.name}.partial"), run))
        report = await Run(suite, settings, sides, journal, progress).report()
    write_atomically(out, report.model_dump_json(indent=1).encode() + b"\n")
    journal.discard()
    return report


async def _identities(sides: Mapping[str, Side]) -> dict[str, Any]:
    """What answers on each side: another offset, or another model, is another run."""
    found = {}
    for name, side in sides.items():
        cards = (await side.ask("GET", "/v1/models")).json()["data"]
        found[name] = [side.model, cards[0].get("system_fingerprint")]
        side.fingerprint = cards[0].get("system_fingerprint")
    return found


def versions() -> dict[str, str]:
    """What measured."""
    return {"python": platform.python_version(), **{name: version(name) for name in ("deltaserve", "httpx2", "numpy")}}
