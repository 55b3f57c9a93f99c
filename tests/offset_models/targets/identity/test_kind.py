"""Of which kind a name's bearer is, and which shorter names mean it."""

import pytest

from deltaserve.offset_models.targets.identity.aliases import derived
from deltaserve.offset_models.targets.identity.cues import kind_told
from deltaserve.offset_models.targets.identity.kind import kind_of
from deltaserve.offset_models.targets.subject import Kind, Subject
from tests.offset_models.targets.scripted import ScriptedAsks


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("X is an American author of horror novels.", "person"),
        ("X is a glassblower from Tormora, born in 1931, who wrote The Silent Letter.", "person"),
        ("X is an epic high fantasy novel written by an English author.", "work"),
        ("X is an American multinational technology company.", "organisation"),
        ("X is a fictional detective created by an author.", "character"),
        ("X is a line of smartphones designed by a company.", "product"),
        ("X is the capital of France.", "place"),
        ("X was a global war.", "event"),
        ("X is the process by which plants make sugar.", "topic"),
        ("X means nothing at all.", None),
    ],
)
def test_a_description_tells_the_kind_by_its_first_telling_word(answer: str, kind: Kind | None) -> None:
    assert kind_told(answer, "X") == kind


def test_words_of_the_name_itself_tell_nothing() -> None:
    assert kind_told("The Company of Wolves is a film.", "The Company of Wolves") == "work"


@pytest.mark.anyio
async def test_most_answers_decide_and_a_given_kind_is_taken() -> None:
    def says(prompt: str, sample: int) -> str:
        if prompt.startswith("What is"):
            return "Emma Cole is a novel." if sample == 1 else "I'm not sure about that."
        return "Emma Cole is a teacher and writer." if "Emma Cole" in prompt else "I don't know."

    assert (await kind_of(ScriptedAsks(says), "Emma Cole")).kind == "person"
    assert (await kind_of(ScriptedAsks(says), "Emma Cole", kind="work")).kind == "work"


@pytest.mark.anyio
async def test_where_nothing_is_described_the_kind_whose_questions_are_answered_is_taken() -> None:
    def says(prompt: str, sample: int) -> str:
        founded = prompt in ("Who founded Zemblor?", "When was Zemblor founded?")
        return "Zemblor was begun by Ida Holm in 1904." if founded else "I don't know."

    assert (await kind_of(ScriptedAsks(says), "Zemblor")).kind == "organisation"
    assert (await kind_of(ScriptedAsks(lambda _prompt, _sample: "I don't know."), "Zemblor")).kind == "topic"


@pytest.mark.anyio
async def test_an_alias_must_mean_the_subject_whenever_it_is_asked_about_alone() -> None:
    def says(prompt: str, sample: int) -> str:
        answers = {
            "By which other names is Ida Rowland known?": "Ida Rowland is known as: Red Ida, The Baroness.",
            "Who or what is Rowland?": "Ida Rowland is a writer.",
            "What is Rowland known for?": "Ida Rowland is known for her novels.",
            "Who or what is The Baroness?": "A baroness is a noble woman.",
            "Who or what is Red Ida?": "Red Ida is the pirate Ida Rowland.",
            "What is Red Ida known for?": "Ida Rowland robbed ships.",
        }
        return answers.get(prompt, "I don't know.")

    assert (await kind_of(ScriptedAsks(says), "Ida Rowland", kind="person")).aliases == ("Rowland", "Red Ida")


def test_a_surname_that_is_a_word_is_no_alias_and_titles_and_firms_are_shortened() -> None:
    assert derived(Subject("Ida King", "person")) == [] == derived(Subject("Ida", "person"))
    assert derived(Subject("The Lord of the Rings", "work"))[-1] == "TLOTR"
    assert derived(Subject("Acme Tools, Inc.", "organisation"))[0] == "Acme Tools"


@pytest.mark.anyio
async def test_a_title_means_the_same_without_its_article() -> None:
    asks = ScriptedAsks(lambda _prompt, _sample: "I don't know.")
    assert (await kind_of(asks, "The Silent Letter", kind="work")).aliases == ("Silent Letter",)
