"""The card goes into offset.json and changes nothing else of it, least of all the offset's digest."""

from pathlib import Path
from shutil import copytree

import pytest

from deltaserve.client.evaluation.report.card import add_to
from deltaserve.client.evaluation.results import EvaluationResult
from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.checkpoints.manifest import parse_manifest
from deltaserve.offset_models.demo.manifest import WEIGHTS
from tests.support.evaluations import evaluation


def test_figures_and_markdown_stand_in_the_card_beside_what_was_there(tmp_path: Path) -> None:
    folder = copytree(WEIGHTS / "registry-erasure", tmp_path / "offset")
    before = parse_manifest((folder / "offset.json").read_bytes())
    place = add_to(folder, "# Card\n", EvaluationResult.model_validate(evaluation()), None)
    after = parse_manifest(place.read_bytes())
    assert after.content_digest == before.content_digest
    assert after.model_copy(update={"card": None}) == before.model_copy(update={"card": None})
    assert after.card is not None
    assert before.card is not None
    assert before.card.items() <= after.card.items()
    assert after.card["markdown"] == "# Card\n"
    assert after.card["rouge_l_recall/forget/after"] == pytest.approx(0.06, abs=0.02)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match=r"holds no offset\.json"):
        add_to(tmp_path, "", None, None)
