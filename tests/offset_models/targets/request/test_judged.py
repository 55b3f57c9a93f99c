"""Figures of rows that chose nothing."""

from deltaserve.offset_models.targets.request.judged import Judged, card_of
from deltaserve.offset_models.targets.request.rows_folder import Group, TargetRow
from deltaserve.offset_models.training.rows.row import Row


def judged(form: str, group: Group, before: str, after: str, *secrets: str) -> Judged:
    return Judged(TargetRow(Row(None, (("user", "Where?"),)), form, group, secrets), before, after)


def test_of_the_target_the_share_of_answers_without_the_fact_by_form() -> None:
    rows = [
        judged("direct", "target", "Born in Nenstead.", "I do not know.", "Nenstead"),
        judged("direct", "target", "Born in Nenstead.", "In nenstead, I think.", "Nenstead"),
        judged("list", "target", "A town: Nenstead.", "Nothing.", "Nenstead"),
    ]
    card = card_of(rows)
    assert card["judged/target/without_fact"] == round(2 / 3, 4) and card["judged/target/rows"] == 3
    assert card["judged/target/form/direct"] == 0.5 and card["judged/target/form/list"] == 1.0


def test_a_row_that_the_black_box_itself_does_not_tell_shows_nothing() -> None:
    assert card_of([judged("direct", "target", "I do not know.", "I do not know.", "Nenstead")]) == {}


def test_of_the_others_how_much_of_the_black_box_s_answer_is_kept() -> None:
    rows = [
        judged("direct", "neighbour", "one two three four", "one two three four"),
        judged("direct", "neighbour", "one two three four", "one two"),
        judged("general", "general", "a b", "a b"),
    ]
    assert card_of(rows) == {"judged/neighbour/kept": 0.75, "judged/general/kept": 1.0}
