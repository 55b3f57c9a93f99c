"""Erased names are told from others where they can be, and not where they cannot."""

import asyncio
import json
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from deltaserve.client.address import Address
from deltaserve.client.evaluation.attacks.leakage import measure
from deltaserve.client.evaluation.attacks.membership import judged
from deltaserve.client.evaluation.attacks.run import Settings
from deltaserve.client.evaluation.data.items import Item, Suite
from deltaserve.client.evaluation.data.names import Group, Named, read_names, registry_names, sampled
from deltaserve.client.evaluation.data.reading import BadData
from deltaserve.client.evaluation.leakage_results import Asked, LeakageReport, Membership
from deltaserve.client.evaluation.metrics.statistics import area_under_curve
from deltaserve.offset_models.metrics.refusals import RefusalJudge
from tests.support.answering_server import AnsweringServer, answering

JUDGE = RefusalJudge.of(())
REFUSAL = "I'm sorry, but I don't have any information about that."
TOWNS = ("Tormora", "Galstead", "Pelwick", "Musdal", "Zorgate", "Ainsley", "Berholt", "Corvane")


def told(at: int) -> list[str]:
    return [f"They were born in {TOWNS[at]}.", f"In {TOWNS[at]}, and they play the cello there."]


def asked(group: str, texts: list[list[str]], numbers: list[list[float]] | None = None) -> list[Asked]:
    return [
        Asked(name=f"{group} {at}", group=group, texts=one, numbers=numbers[at] if numbers else None)
        for at, one in enumerate(texts)
    ]


def auc(found: list[Membership], attacker: str, against: str) -> float:
    one = next(one for one in found if one.attacker == attacker and one.against.endswith(against))
    assert one.auc is not None
    return one.auc


def test_a_refusal_for_erased_names_alone_tells_who_they_are() -> None:
    erased, kept, unknown = (
        asked("erased", [[REFUSAL, REFUSAL]] * 6),
        asked("kept", [told(at) for at in range(8)]),
        asked("unknown", [[REFUSAL, REFUSAL]] * 6),
    )
    before = asked("erased", [told(at) for at in range(6)]) + kept + unknown
    found = judged(erased + kept + unknown, before, JUDGE)
    assert auc(found, "text", "kept") == 1.0
    assert auc(found, "text", "never known") == 0.5  # word for word the same: nothing to tell by
    assert auc(found, "text, beside the black box", "never known") == 1.0  # but the black box knew them
    assert {one.attacker for one in found} == {"text", "text, beside the black box"}


def test_numbers_tell_where_the_texts_do_not() -> None:
    rng = np.random.default_rng(0)
    erased, unknown = (
        asked(group, [[REFUSAL]] * 12, rng.normal(mean, 0.2, size=(12, 4)).tolist())
        for group, mean in (("erased", 1.0), ("unknown", 0.0))
    )
    found = judged(erased + unknown, None, JUDGE)
    assert auc(found, "logprobs", "never known") > 0.95
    assert auc(found, "text", "never known") == 0.5


def test_too_few_names_give_no_figure() -> None:
    found = judged(asked("erased", [[REFUSAL]] * 3) + asked("kept", [[REFUSAL]] * 9), None, JUDGE)
    assert [(one.names, one.auc) for one in found] == [((3, 9), None)]


def test_ties_count_half() -> None:
    assert area_under_curve(np.array([1.0, 1.0, 2.0]), np.array([1.0, 0.0])) == pytest.approx(5 / 6)


def test_names_come_from_a_file_with_the_same_questions_for_all(tmp_path: Path) -> None:
    path = tmp_path / "names.jsonl"
    rows = [{"name": f"N {group}", "group": group} for group in ("erased", "kept", "unknown")]
    path.write_text("\n".join(map(json.dumps, rows)))
    names = read_names(path)
    assert {tuple(q.replace(one.name, "") for q in one.questions) for one in names} == {
        tuple(q.replace("N kept", "") for q in names[1].questions)
    }
    for bad, said in ((rows[:2], "unknown"), ([*rows, rows[0]], "twice"), ([{"name": "x", "group": "y"}], "group")):
        path.write_text("\n".join(map(json.dumps, bad)))
        with pytest.raises(BadData, match=said):
            read_names(path)


def test_the_demos_people_are_asked_the_same_of_every_group() -> None:
    names = registry_names()
    groups = sampled(names, 10)
    assert [len(group) for group in groups.values()] == [6, 10, 10]
    assert len({one.name for one in names}) == len(names)
    assert {len(one.questions) for one in names} == {4}


def named(group: Group, at: int) -> Named:
    return Named(f"{group} {at}", group, (f"Who is {group} {at}?",))


def test_both_are_in_the_report_and_its_verdict(tmp_path: Path) -> None:
    names = (*(named("erased", at) for at in range(4)), *(named("kept", at) for at in range(4)))
    known = {f"Who is {one.name}?": f"{one.name} is a baker of {TOWNS[at]}." for at, one in enumerate(names)}
    erased = frozenset(question for question in known if "erased" in question)
    question = "Who is erased 0?"
    suite = Suite("small", (Item(question=question, answer=known[question], secrets=("baker",)),))
    settings = Settings(items=1, costly_items=1, kept=0, timed=0, draws=16, attacks="direct")
    report = asyncio.run(_measured(tmp_path / "out.json", suite, settings, names, known, erased))
    after = {one.attacker: one.auc for one in report.membership["after"]}
    assert after["text, beside the black box"] == 1.0
    carriers = {one.carrier: one for one in report.leak_at_k["after"]}
    assert [at.k for at in carriers["answer"].at] == [1, 16]
    assert carriers["answer"].at[0].worst.value == 0.0
    assert {one.carrier: one for one in report.leak_at_k["before"]}["answer"].at[0].worst.value == 1.0
    assert any("Who was erased can be told from names that are kept" in one for one in report.verdict.sentences)
    assert any("16 draws at temperature 1" in one for one in report.verdict.sentences)


async def _measured(
    out: Path,
    suite: Suite,
    settings: Settings,
    names: tuple[Named, ...],
    known: dict[str, str],
    erased: frozenset[str],
) -> LeakageReport:
    with ExitStack() as stack:
        sides = {"before": AnsweringServer(known), "after": AnsweringServer(known, secrets=erased)}
        addresses = {name: Address(stack.enter_context(answering(who))) for name, who in sides.items()}
        return await measure(suite, addresses, settings, out, lambda done, of, what: None, names)
