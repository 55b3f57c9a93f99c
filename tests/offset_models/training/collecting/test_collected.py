"""What a folder holds of a data set, and what of it cannot be trained on."""

from pathlib import Path

from deltaserve.offset_models.training.collecting.collected import Caches
from deltaserve.offset_models.training.rows.dataset import Encoded, RetainRow
from deltaserve.offset_models.training.rows.row import BadRow, Row
from deltaserve.offset_models.training.rows.samples import Sample


def test_an_answer_of_the_black_box_that_cannot_be_trained_on_is_left_out_and_named(tmp_path: Path) -> None:
    caches = Caches.open(tmp_path, "box", 2, 8)
    rows = [
        RetainRow(None, (line,), Row(None, prompt="What?", origin=f"kept.jsonl, line {line}")) for line in (1, 2, 3)
    ]
    for row in rows:
        caches.answers.put(row.prompt, (7, 10 * row.prompt[0]))

    def check(row: Row, sample: Sample) -> None:
        if 20 in sample.answer_ids:
            raise BadRow(f"{row.origin}: no.")

    asked = Encoded(retain=rows)
    known = caches.answered(asked, check)
    assert known.retained() == [Sample((1,), (7, 10)), Sample((3,), (7, 30))]
    assert (known.bad, asked.bad) == (["kept.jsonl, line 2: no."], [])
