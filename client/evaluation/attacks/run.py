"""One run of the attack suite over all servers; the journal holds what is done."""

import asyncio
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Final

from deltaserve.client.errors import Refused
from deltaserve.client.evaluation.attacks.base import Attack, Context, Finding, Inapplicable
from deltaserve.client.evaluation.attacks.membership import NameRun
from deltaserve.client.evaluation.attacks.repeated import repeated
from deltaserve.client.evaluation.attacks.table import ATTACKS
from deltaserve.client.evaluation.attacks.timing import separation, stream_times
from deltaserve.client.evaluation.attacks.verdict import MARGIN, SERVED, attack_result, verdict
from deltaserve.client.evaluation.data.items import Item, Suite, sample
from deltaserve.client.evaluation.data.names import Named, sampled
from deltaserve.client.evaluation.journal import Journal
from deltaserve.client.evaluation.leakage_results import (
    AttackResult,
    CarrierResult,
    KeptAnswer,
    LeakageReport,
    Membership,
    Outcome,
    OverRefusal,
    SideInfo,
    Timing,
)
from deltaserve.client.evaluation.metrics.exactness import between, counters
from deltaserve.client.evaluation.metrics.over_refusal import SCORED, KeptQuestions, kept_items, summary
from deltaserve.client.evaluation.patience import together
from deltaserve.client.evaluation.target import AT_ONCE, Target
from deltaserve.errors import BadRequest
from deltaserve.offset_models.metrics.refusals import RefusalJudge

LONGEST_TEXT: Final = 400  # characters of an example
LONGEST_REASON: Final = 300
Progress = Callable[[int, int, str], None]  # done, of how many, what
Job = tuple[str, Attack, Item]  # on which side


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How much is tried. Two runs with other settings are not compared."""

    items: int = 24  # forgotten items
    costly_items: int = 6  # of attacks that draw many answers
    samples: int = 100  # answers of such an attack, per item
    max_tokens: int = 48
    kept: int = 24  # kept items of each split
    timed: int = 16  # streamed answers of each kind
    texts: bool = True  # keep examples of the answers
    attacks: str = ""  # names of those that are run, comma separated; empty: all
    minutes: float = 0.0  # past them no attack is begun; 0: no bound
    calls: int = 0  # the same of requests to all servers
    names: int = 24  # of each group, where names are given: erased, kept, never known
    draws: int = 0  # answers to each item in every form, for leak@k; 0: not measured

    def chosen(self) -> tuple[Attack, ...]:
        """Raises BadRequest for a name that no attack has."""
        names = [name for part in self.attacks.split(",") if (name := part.strip())]
        known = {attack.name for attack in ATTACKS}
        if unknown := [name for name in names if name not in known]:
            raise BadRequest(f"There is no attack {unknown[0]!r}; there are: {', '.join(sorted(known))}.")
        return tuple(attack for attack in ATTACKS if not names or attack.name in names)

    @property
    def bounded(self) -> bool:
        return bool(self.minutes or self.calls)


@dataclass
class Run:
    """The servers by the names that the report gives them, and what is tried on them."""

    suite: Suite
    settings: Settings
    targets: dict[str, Target]
    journal: Journal
    progress: Progress
    names: Sequence[Named] = ()  # whose membership of the list of the erased is guessed
    began: float = field(default_factory=time.monotonic)
    untried: int = 0  # attacks on single items that were not begun within the bounds

    async def report(self) -> LeakageReport:
        """Whatever the journal does not hold yet is done now. Raises ServerFailed and Unreachable."""
        await self._attack()
        served = {name: target for name, target in self.targets.items() if name in SERVED}
        start = {name: await counters(target) for name, target in served.items()}
        timing = await self._timing()
        membership, leak_at_k = await self._membership(), await self._leak_at_k()
        over = await self._over_refusal()
        exact = {name: between(start[name], await counters(target)) for name, target in served.items()}
        results = self._results()
        return LeakageReport(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            suite=self.suite.name,
            suite_digest=self.suite.attack_digest,
            items=len(sample(self.suite.forget, self.settings.items)),
            settings=asdict(self.settings),
            margin=MARGIN,
            sides={
                name: SideInfo(model=target.model, fingerprint=target.fingerprint, calls=target.calls)
                for name, target in self.targets.items()
            },
            attacks=results,
            timing=timing,
            over_refusal=over,
            exactness={name: one for name, one in exact.items() if one is not None},
            untried=self.untried,
            membership=membership,
            leak_at_k=leak_at_k,
            verdict=verdict(results, timing, over, self.untried, membership, leak_at_k),
            seconds=round(time.monotonic() - self.began, 1),
            versions=versions(),
        )

    def _results(self) -> list[AttackResult]:
        items = {item.key: item for item in self.suite.items}
        outcomes: dict[str, list[Outcome]] = {}
        for entry in self.journal.entries:
            if "outcome" in entry:
                outcome = Outcome.model_validate(entry["outcome"])
                outcomes.setdefault(outcome.attack, []).append(outcome)
        return [attack_result(attack, outcomes[attack.name], items) for attack in ATTACKS if attack.name in outcomes]

    def _jobs(self) -> Iterator[Job]:
        for attack in self.settings.chosen():
            count = self.settings.costly_items if attack.costly else self.settings.items
            for item in sample(self.suite.forget, count):
                for name in self.targets:
                    if name in SERVED or not attack.served_only:
                        yield name, attack, item

    async def _attack(self) -> None:
        done = {
            (outcome["side"], outcome["attack"], outcome["item"])
            for entry in self.journal.entries
            if (outcome := entry.get("outcome"))
        }
        jobs = list(self._jobs())
        left = [job for job in jobs if (job[0], job[1].name, job[2].key) not in done]
        finished, places = len(jobs) - len(left), asyncio.Semaphore(AT_ONCE)

        async def one(name: str, attack: Attack, item: Item) -> None:
            nonlocal finished
            async with places:
                if self._spent:
                    self.untried += 1
                    return
                outcome = await self._outcome(name, attack, item)
            self.journal.add({"outcome": outcome.model_dump()})
            finished += 1
            self.progress(finished, len(jobs), attack.name)

        for group in self._groups(left):
            await together(one(*job) for job in group)

    @property
    def _spent(self) -> bool:
        """Whether a bound is reached."""
        minutes, calls = (time.monotonic() - self.began) / 60, sum(target.calls for target in self.targets.values())
        return bool(self.settings.minutes and minutes >= self.settings.minutes) or bool(
            self.settings.calls and calls >= self.settings.calls
        )

    def _groups(self, jobs: Sequence[Job]) -> list[list[Job]]:
        """What is done together: one attack on all items; within bounds every attack on one item, so that each is tried
        on as many; costly ones last.
        """
        keys = [(job[1].costly, job[2].key) if self.settings.bounded else (False, job[1].name) for job in jobs]
        order = sorted(dict.fromkeys(keys), key=lambda key: key[0])
        return [[job for key, job in zip(keys, jobs, strict=True) if key == wanted] for wanted in order]

    async def _outcome(self, name: str, attack: Attack, item: Item) -> Outcome:
        context = Context(self.targets[name], self.suite, self.settings.samples, self.settings.max_tokens)
        try:
            finding = await attack.run(context, item)
        except (Refused, Inapplicable) as error:
            return Outcome(side=name, attack=attack.name, item=item.key, blocked=str(error)[:LONGEST_REASON])
        return outcome_of(finding, name, attack, item, self.suite.counterpart(item), texts=self.settings.texts)

    async def _timing(self) -> dict[str, Timing]:
        """One stream at a time, with nothing else under way."""
        timings: dict[str, Timing] = {}
        forgotten = sample(self.suite.forget, self.settings.timed)
        kept = sample(self.suite.split("neighbours"), self.settings.timed)
        for name, target in self.targets.items():
            earlier = next((e["timing"] for e in self.journal.entries if e.get("timed") == name), None)
            if earlier is None:
                self.progress(0, 1, f"timing of {name}")
                times = await stream_times(target, forgotten), await stream_times(target, kept)
                earlier = separation(*times).model_dump()
                self.journal.add({"timed": name, "timing": earlier})
            timings[name] = Timing.model_validate(earlier)
        return timings

    async def _membership(self) -> dict[str, list[Membership]]:
        groups = sampled(self.names, self.settings.names)
        names = [named for group in groups.values() for named in group]
        if not names:
            return {}
        judge = RefusalJudge.of(self.suite.refusals)
        run = NameRun(names, self.targets, self.journal, judge, self.settings.max_tokens)
        return await run.results(SERVED, lambda what: self.progress(0, 1, what))

    async def _leak_at_k(self) -> dict[str, list[CarrierResult]]:
        settings, items = self.settings, sample(self.suite.forget, self.settings.costly_items)
        return {
            name: await repeated(
                name,
                target,
                self.suite,
                items,
                settings.draws,
                settings.max_tokens,
                self.journal,
                lambda what: self.progress(0, 1, what),
            )
            for name, target in self.targets.items()
            if settings.draws
        }

    async def _over_refusal(self) -> dict[str, list[OverRefusal]]:
        if "before" not in self.targets:
            return {}
        served = [name for name in self.targets if name in SERVED]
        return {
            name: [await self._split(name, split, items) for split, items in kept_items(self.suite).items()]
            for name in served
        }

    async def _split(self, name: str, split: str, items: Sequence[Item]) -> OverRefusal:
        judge = RefusalJudge.of(self.suite.refusals)
        questions = KeptQuestions(self.targets["before"], self.targets[name], judge)
        known = {e["kept"]["item"]: e["kept"] for e in self.journal.entries if e.get("kept_of") == name}
        chosen = sample(items, self.settings.kept)

        async def one(at: int, item: Item) -> KeptAnswer:
            if item.key in known:
                return KeptAnswer.model_validate(known[item.key])
            answer = await questions.ask(item, scored=at < SCORED)
            if not self.settings.texts:
                answer = answer.model_copy(update={"before": "", "after": "", "question": ""})
            self.journal.add({"kept_of": name, "kept": answer.model_dump()})
            return answer

        self.progress(0, len(chosen), f"over-refusal: {split}")
        return summary(split, await together(one(at, item) for at, item in enumerate(chosen)))


def outcome_of(
    finding: Finding, side: str, attack: Attack, item: Item, other: Item | None, *, texts: bool = True
) -> Outcome:
    """What a finding means: whose secret came out, the item's own or that of `other`, which only a guess gives."""
    leaking = [item.given_away(one.text, one.prefix) for one in finding.tries]
    swapped = finding.swapped
    if other is not None and finding.leaked is None:
        swapped = any(other.given_away(one.text, one.prefix) for one in finding.tries)
    examples = [one.text for one, leaks in zip(finding.tries, leaking, strict=True) if leaks or not any(leaking)]
    return Outcome(
        side=side,
        attack=attack.name,
        item=item.key,
        leaked=any(leaking) if finding.leaked is None else finding.leaked,
        swapped=swapped,
        tries=len(finding.tries),
        leaking_tries=sum(leaking),
        figures=dict(finding.figures),
        text=examples[0][:LONGEST_TEXT] if examples and texts else None,
    )


def versions() -> dict[str, str]:
    """Of what measured."""
    return {"python": platform.python_version(), **{name: version(name) for name in ("deltaserve", "httpx2", "numpy")}}
