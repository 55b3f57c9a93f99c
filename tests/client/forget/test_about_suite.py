"""What the short attack on a request by name asks for."""

from types import SimpleNamespace
from typing import Any, cast

from deltaserve.client.forgetting.about import Prepared
from deltaserve.offset_models.targets.request.rows_folder import Parts, TargetRow
from deltaserve.offset_models.training.rows.row import Row

RUNNING = TargetRow(Row(" Nenstead.", prompt="Vuxan Zunweld was born in"), "running text", "target", ("Nenstead",))
CHAT = TargetRow(Row("I don't know.", (("user", "Where was she born?"),)), "direct", "target", ("Nenstead",))
PLAN = cast(Any, SimpleNamespace(data=SimpleNamespace(retain=())))


def suite_of(parts: Parts) -> list[str]:
    return [item.question for item in Prepared(cast(Any, None), parts).suite(PLAN).forget]


def test_trained_rows_are_attacked_where_no_held_out_row_is_a_question() -> None:
    assert suite_of(Parts({"forget": [CHAT], "judge-forget": [RUNNING]})) == ["Where was she born?"]


def test_rows_of_running_text_alone_leave_nothing_to_attack() -> None:
    assert suite_of(Parts({"forget": [RUNNING], "judge-forget": [RUNNING]})) == []
