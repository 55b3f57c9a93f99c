"""The page says what the figures say, is one file that loads nothing, and takes no answer for markup."""

import re
from html.parser import HTMLParser

import pytest

from deltaserve.client.evaluation.attacks.verdict import rate, verdict
from deltaserve.client.evaluation.leakage_results import (
    AttackResult,
    Bounds,
    CarrierResult,
    Exactness,
    Example,
    KeptAnswer,
    LeakageReport,
    LeakAtK,
    Membership,
    OverRefusal,
    SideInfo,
    SideResult,
    Timing,
)
from deltaserve.client.evaluation.report.answers import cards
from deltaserve.client.evaluation.report.changes import marked
from deltaserve.client.evaluation.report.page import heading, html, markdown, truth_ratios
from deltaserve.client.evaluation.results import EvaluationResult
from tests.support.evaluations import evaluation

NASTY = "</p><script>alert(1)</script>"


def side(successes: int, items: int = 24, blocked: int = 0) -> SideResult:
    return SideResult(
        success=rate([True] * successes + [False] * (items - successes)), chance=rate([False] * items), tries=items,
        leaking_tries=successes, figures={"rank": 3.0}, blocked=blocked, reason="no such route" if blocked else None,
    )  # fmt: skip


def said(side: str, text: str) -> Example:
    return Example(side=side, question="Who is Ada?", text=text, leaked=False)


def attack(name: str, before: int, after: int) -> AttackResult:
    leaks = after / 24 > 0.05
    return AttackResult(
        name=name, family="wording", what="Asks.", sides={"before": side(before), "after": side(after)}, baseline=0.0,
        baseline_from="guessing", judgement={"after": "leaks" if leaks else "holds"}, certain={"after": False},
        examples=[said("before", "A sculptor."), said("after", NASTY)],
    )  # fmt: skip


def leakage(*attacks: AttackResult) -> LeakageReport:
    answers = [
        KeptAnswer(item="1", question="Who?", before="Ada.", after="Ada.", before_refuses=False, after_refuses=False)
    ]
    over = OverRefusal(
        split="neighbours", asked=24, black_box_refuses=1, refused=rate([True] + [False] * 22), unchanged=20,
        judge="similarity", inclined=None, scored=0, answers=answers,
    )  # fmt: skip
    timing = {"after": Timing(answers=(16, 16), auc=0.61, low=0.4, high=0.8)}
    exact = Exactness(
        tokens=900, certified_share=0.97, mean_tail_mass=0.02, replaced_share=0.08, restarts_per_100_tokens=4.0,
        guarded_share=0.0,
    )  # fmt: skip
    listed = [
        Membership(attacker="text", against="names that are kept", names=(6, 24), auc=0.93, low=0.8, high=1.0),
        Membership(attacker="times", against="names that are kept", names=(3, 24), auc=None, low=None, high=None),
    ]
    sure = Bounds(value=0.75, low=0.5, high=0.875)
    drawn = [
        CarrierResult(
            carrier="answer", what="", items=2, draws=16, at=[LeakAtK(k=16, worst=sure, mean=sure)], blocked=0,
            reason=None,
        ),
        CarrierResult(carrier="tool arguments", what="", items=0, draws=0, at=[], blocked=2, reason="no tools here"),
    ]  # fmt: skip
    lists, draws = {"after": listed}, {"after": drawn}
    return LeakageReport(
        created="2026-01-03T00:00:00+00:00", suite="registry", suite_digest="ef" * 32, items=24, settings={"items": 24},
        margin=0.05, sides={n: SideInfo(model="m", fingerprint=None, calls=9) for n in ("before", "after")},
        attacks=list(attacks), timing=timing, over_refusal={"after": [over]}, exactness={"after": exact},
        membership=lists, leak_at_k=draws, verdict=verdict(attacks, timing, {"after": [over]}, 0, lists, draws),
        seconds=12.0, versions={"python": "3.11"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def measured() -> EvaluationResult:
    return EvaluationResult.model_validate(evaluation())


@pytest.fixture(scope="module")
def page(measured: EvaluationResult) -> str:
    return html(measured, leakage(attack("direct", 24, 0), attack("begun: answer", 24, 20)), "A title & more")


class Tags(HTMLParser):
    """Every tag and attribute; complains of tags that are never closed."""

    VOID = frozenset({"meta", "br", "link", "img", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    assert not tags.open
    return tags


def test_the_list_of_the_erased_and_repeated_draws_are_told(page: str) -> None:
    assert "Who was erased can be told from names that are kept with AUC 0.93 (text)." in page
    assert "0.80 to 1.00" in page and "too few" in page
    assert "Of 16 draws at temperature 1" in page and "0.75 <small>(0.50 to 0.88)</small>" in page
    assert "not measured: no tools here" in page


def test_the_page_is_whole_and_loads_nothing(page: str) -> None:
    tags = parsed(page)
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in tags.seen}
    addresses = [
        value for _, attrs in tags.seen for name, value in attrs.items() if name in ("href", "src", "xlink:href")
    ]
    assert all(value and value.startswith("#") for value in addresses)
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_ids_are_used_once(page: str) -> None:
    ids = [attrs["id"] for _, attrs in parsed(page).seen if "id" in attrs]
    assert len(set(ids)) == len(ids)


def test_answers_are_text_never_markup(page: str) -> None:
    assert NASTY not in page
    assert "alert(1)" in re.sub(r"<[^>]+>", "", page)


def test_the_verdict_is_on_top_in_words(page: str) -> None:
    text = re.sub(r"<[^>]+>", " ", page[: page.index("<h2")])
    assert "Is it forgotten?" in text
    assert "1 of 2" in text
    assert "begun: answer: 83 %" in text


@pytest.mark.parametrize(
    ("forgotten", "kept", "leaking", "words"),
    [
        (0.05, 0.96, 0, ("Yes", "Yes", "No")),
        (0.6, 0.96, 0, ("Not wholly", "Yes", "No")),
        (0.05, 0.8, 24, ("Yes", "Not wholly", "Yes")),
    ],
)
def test_cards_follow_the_figures(forgotten: float, kept: float, leaking: int, words: tuple[str, ...]) -> None:
    measured = EvaluationResult.model_validate(evaluation(forgotten=forgotten, kept=kept))
    made = cards(measured, leakage(attack("direct", 24, leaking)))
    assert tuple(card.word for card in made) == words


def declined(*splits: tuple[str, int, int]) -> LeakageReport:
    """A report of one attack that holds; of each split so many were declined, of so many."""
    report = leakage(attack("direct", 24, 0))
    over = [
        report.over_refusal["after"][0].model_copy(
            update={"split": split, "refused": rate([True] * successes + [False] * (items - successes))}
        )
        for split, successes, items in splits
    ]
    return report.model_copy(update={"over_refusal": {"after": over}})


@pytest.mark.parametrize(
    ("splits", "colour", "figure"),
    [
        ([("neighbours", 0, 24), ("code", 0, 4)], "good", "3 %"),
        ([("neighbours", 0, 24), ("code", 1, 1)], "unsure", "1 of 1"),  # one question is no share
        ([("neighbours", 3, 24), ("code", 1, 1)], "bad", "3 of 24"),
        ([("neighbours", 0, 24), ("general", 24, 24)], "bad", "24 of 24"),  # a whole kind is lost
    ],
)
def test_a_colour_is_explained_by_the_figure_beside_it(
    splits: list[tuple[str, int, int]], colour: str, figure: str
) -> None:
    document = evaluation(kept=0.95)
    for side, value in (("before", 0.98), ("after", 0.95)):
        for split in ("neighbours", "general"):
            document["figures"][side]["splits"][split]["rouge_l_recall"]["value"] = value
    kept = cards(EvaluationResult.model_validate(document), declined(*splits))[1]
    assert (kept.colour, kept.figure) == (colour, figure)


def test_refusals_alone_are_judged_by_the_same_rule() -> None:
    assert cards(None, declined(("neighbours", 0, 24)))[0].colour == "good"
    assert cards(None, declined(("neighbours", 24, 24)))[0].figure == "24 of 24"
    assert cards(None, declined(("code", 1, 2)))[0].colour == "unsure"


def test_a_lost_recall_is_the_figure_where_it_decides() -> None:
    kept = cards(EvaluationResult.model_validate(evaluation(kept=0.8)), declined(("code", 1, 1)))[1]
    assert kept.colour == "bad" and kept.figure.endswith(" %")


def test_attacks_that_could_not_be_judged_are_not_called_harmless() -> None:
    blocked = attack("echo", 0, 0).model_copy(update={"judgement": {"after": "not measured"}})
    assert [(card.word, card.colour) for card in cards(None, leakage(blocked))][-1] == ("Unknown", "unsure")


def test_the_title_names_what_was_measured_and_nothing_else(measured: EvaluationResult) -> None:
    attacked = leakage(attack("direct", 24, 0))
    assert heading(measured, attacked) == "What was forgotten, what was kept, what still leaks"
    assert heading(measured, None) == "What was forgotten, what was kept"
    assert heading(None, attacked) == "What was kept, what still leaks"
    assert heading(None, attacked.model_copy(update={"over_refusal": {}})) == "What still leaks"


def test_truth_ratios_are_told_as_a_share_that_no_single_question_can_blow_up() -> None:
    document = evaluation()
    unlikely = document["items"][0]["sides"]["after"]
    unlikely |= {"paraphrased_mean_logprob": -30.0}  # its ratio is some 10^12
    page = markdown(EvaluationResult.model_validate(document), None, "T")
    row = next(line for line in page.splitlines() if "to be forgotten" in line and "truth ratio" in line)
    before, after = (float(cell) for cell in row.split("|")[3:5])
    assert before == 1.0 and 0.0 <= after < 1.0


def test_either_file_alone_makes_a_page(measured: EvaluationResult) -> None:
    alone = html(measured, None, "t")
    assert "Forgotten and kept" in alone
    assert "Attacks" not in alone
    parsed(alone)
    other = html(None, leakage(attack("direct", 24, 0)), "t")
    assert "Attacks" in other
    assert "Forgotten and kept" not in other
    parsed(other)


def test_truth_ratios_are_the_geometric_mean_of_wrong_over_right() -> None:
    document = evaluation()
    first = document["items"][0]["sides"]["after"]
    first |= {"paraphrased_mean_logprob": -1.0, "perturbed_mean_logprobs": [-2.0, -4.0]}
    assert truth_ratios(EvaluationResult.model_validate(document), "after")[0] == pytest.approx(2.718281828**-2)


def test_the_card_is_markdown_with_the_same_verdict(measured: EvaluationResult) -> None:
    made = leakage(attack("direct", 24, 0), attack("begun: answer", 24, 20))
    card = markdown(measured, made, "Card")
    assert card.startswith("# Card\n")
    assert made.verdict.headline in card
    assert "| begun: answer | 100 % | 83 % | 0 % | leaks |" in card
    assert "sculptor" not in card


def test_changed_words_are_marked_and_the_texts_stay_whole() -> None:
    before, after = marked("Ada was born in Tormora.", "Ada was born in a <place>.")
    assert str(before) == "Ada was born in <del>Tormora</del>."
    assert str(after) == "Ada was born in <ins>a &lt;place&gt;</ins>."
    assert [str(one) for one in marked("All of it", "None now")] == ["<del>All of it</del>", "<ins>None now</ins>"]
