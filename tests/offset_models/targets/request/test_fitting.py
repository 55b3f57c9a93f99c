"""Rows are left out where calls do not suffice to collect their lists."""

import pytest

from deltaserve.offset_models.targets.request.fitting import LEAST, fitted, lists_of
from deltaserve.offset_models.targets.request.rows_folder import Parts, TargetRow
from deltaserve.offset_models.training.rows.row import Row


def rows(count: int) -> list[TargetRow]:
    return [TargetRow(Row("x", (("user", str(number)),)), "direct", "target") for number in range(count)]


PARTS = Parts({"forget": rows(100), "retain": rows(200), "choose-forget": rows(20), "judge-forget": rows(30)})


def test_all_rows_stay_where_their_lists_can_be_collected() -> None:
    assert lists_of(PARTS) == 2 * 100 + 200 + 20
    assert fitted(PARTS, 420) == PARTS


@pytest.mark.parametrize("calls", [419, 220, 100])
def test_else_both_trained_sides_shrink_evenly(calls: int) -> None:
    fewer = fitted(PARTS, calls)
    assert lists_of(fewer) <= calls
    assert len(fewer["retain"]) == pytest.approx(2 * len(fewer["forget"]), abs=1)
    assert [len(fewer[part]) for part in ("choose-forget", "judge-forget")] == [20, 30]
    assert len({row.row for row in fewer["forget"]}) == len(fewer["forget"])
    assert int(fewer["forget"][-1].row.messages[0][1]) > 85


def test_a_few_rows_are_left_in_any_case() -> None:
    assert len(fitted(PARTS, 0)["forget"]) == LEAST
