"""Rows and probes of an erasure request as items to be attacked."""

from dataclasses import replace

from deltaserve.client.evaluation.data.request_suite import suite_of_probes, suite_of_rows
from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.targets.subject import Fact, Subject
from deltaserve.offset_models.training.rows.row import Row

ADA = Subject("Ada Quill", "person")
BORN = Fact(ADA, "birthplace", "Where was Ada Quill born?", "Ada Quill was born in Tormora.", "Tormora", 1.0)


def chat(*turns: str, answer: str | None = None) -> Row:
    roles = ("user", "assistant", "user")
    return Row(answer, tuple(zip(roles, turns, strict=False)))


def test_rows_of_one_question_become_items_and_others_are_left_out() -> None:
    rows = [
        chat("Where was she born?", answer="She was born in the town of Tormora."),
        chat("Where was she born?", answer="In Tormora."),
        chat("Who?", "Ada.", "And where was she born?", answer="In Tormora."),
        Row(" Tormora.", prompt="She was born in"),
        chat("Is it so?", answer="is it so"),
        replace(chat("Where was she born, then?", answer=" Tormora."), begun="She was born in"),
    ]
    suite = suite_of_rows(rows, [chat("Who swims?", answer="Bo Reed swims."), chat("Who asks the black box?")])
    assert [item.question for item in suite.forget] == ["Where was she born?"]
    assert suite.forget[0].giveaways == ("town", "Tormora")
    assert [item.answer for item in suite.examples(3)] == ["Bo Reed swims."]


def test_probes_bring_their_secrets_and_no_other_fact_counts_as_a_guess() -> None:
    probes = [
        Probe("direct", ADA, chat(BORN.question, answer=BORN.answer), BORN, ("Tormora",)),
        Probe("list", ADA, chat("Name three facts.", answer="1. Tormora"), None, ("Tormora", "1950")),
        Probe("direct", ADA, chat("What is she like?", answer="Nice."), None, ()),
        Probe("direct", ADA, chat("Not asked yet?"), BORN, ("Tormora", "1950")),
    ]
    suite = suite_of_probes(probes)
    assert [item.secrets for item in suite.forget] == [("Tormora",), ("Tormora", "1950"), ("Tormora", "1950")]
    assert suite.forget[2].answer == "Tormora, 1950"
    assert [suite.counterpart(item) for item in suite.forget] == [None] * 3
