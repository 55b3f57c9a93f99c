"""What an interrupted run left is read again, also by later versions; damage and other runs are refused."""

from pathlib import Path
from typing import Any

import pytest

from deltaserve.client.evaluation.data.items import Item
from deltaserve.client.evaluation.data.reading import BadData
from deltaserve.client.evaluation.journal import Journal, OtherRun
from deltaserve.client.evaluation.results import Measurement
from deltaserve.client.evaluation.running import Measurements

RUN: dict[str, Any] = {"settings": {"logprobs": 20, "max_tokens": 200}, "data": "ab", "text": False}
ITEM = Item("Where was she born?", "In Tormora.")
FIGURES = (
    '"tokens":3,"mean_logprob":-1.5,"rouge_1_recall":0.5,"rouge_l_recall":0.5,"exact_memorisation":0.0,'
    '"extraction_strength":0.0,"zlib_score":-0.1,"min_k":-3.0,"min_k_plus_plus":-1.0'
)


def written(folder: Path, *lines: str) -> Path:
    """The result whose journal holds these lines."""
    (folder / "out.json.partial").write_text("".join(f"{line}\n" for line in lines))
    return folder / "out.json"


def test_the_journal_of_an_earlier_evaluate_is_read(tmp_path: Path) -> None:
    first = '{"data":"ab","settings":{"logprobs":20,"max_tokens":200},"text":false}'  # keys in order
    entry = f'{{"side":"after","item":"{ITEM.digest}","measured":{{{FIGURES}}}}}'
    with Journal(written(tmp_path, first, entry), RUN) as journal:
        measurements = Measurements(journal)
        assert len(measurements) == 1 and ("before", ITEM) not in measurements
        assert measurements["after", ITEM] == Measurement.model_validate_json(f"{{{FIGURES}}}")


def test_the_journal_of_an_earlier_leakage_is_read_without_its_torn_last_line(tmp_path: Path) -> None:
    first = '{"text":false,"settings":{"max_tokens":200,"logprobs":20},"data":"ab"}'  # keys in any order
    out = written(tmp_path, first, '{"outcome":{"side":"after","attack":"direct","item":"x"}}')
    with out.with_name("out.json.partial").open("a") as file:
        file.write('{"outcome":{"si')
    with Journal(out, RUN) as journal:
        assert [entry["outcome"]["attack"] for entry in journal.entries] == ["direct"]
        journal.add({"timed": "after", "timing": {}})
    with Journal(out, RUN) as journal:
        assert [*map(list, journal.entries)] == [["outcome"], ["timed", "timing"]]
        journal.remove()
    assert not journal.path.exists()


@pytest.mark.parametrize("line", ["{", "5", '"outcome"'])
def test_a_damaged_line_is_refused(tmp_path: Path, line: str) -> None:
    out = written(tmp_path, '{"settings":{"logprobs":20,"max_tokens":200},"data":"ab","text":false}', line)
    with pytest.raises(BadData, match=r"out\.json\.partial is damaged; remove it"):
        Journal(out, RUN)


def test_an_entry_that_is_no_measurement_is_damage_too(tmp_path: Path) -> None:
    with Journal(tmp_path / "out.json", RUN) as journal:
        journal.add({"side": "after", "item": ITEM.digest, "measured": {"tokens": 0}})
        with pytest.raises(BadData, match="damaged"):
            Measurements(journal)


def test_the_journal_of_another_run_is_refused_and_stays(tmp_path: Path) -> None:
    out = written(tmp_path, '{"data":"other"}')
    with pytest.raises(OtherRun, match="other data, settings or servers"):
        Journal(out, RUN)
    assert out.with_name("out.json.partial").read_text() == '{"data":"other"}\n'
