"""What a model folder recommends for drawing from it."""

import json
from pathlib import Path
from typing import Any

import pytest

from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.tokenizer.generation_config import recommended_sampling


def declare(folder: Path, **values: Any) -> Path:
    (folder / "generation_config.json").write_text(json.dumps(values))
    return folder


def test_the_five_numbers_are_read_and_everything_else_of_the_file_is_left(tmp_path: Path) -> None:
    numbers = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "min_p": 0.05, "repetition_penalty": 1.05}
    others = {"do_sample": False, "eos_token_id": [1, 2], "max_length": 20, "num_beams": 4, "_from_model_config": True}
    assert recommended_sampling(declare(tmp_path, **numbers, **others)) == numbers


def test_what_is_missing_or_null_is_not_recommended(tmp_path: Path) -> None:
    assert recommended_sampling(tmp_path) == {}
    assert recommended_sampling(declare(tmp_path, temperature=None, top_p=0.9)) == {"top_p": 0.9}


def test_a_count_may_be_written_with_a_point_and_is_whole(tmp_path: Path) -> None:
    found = recommended_sampling(declare(tmp_path, top_k=64.0, temperature=1))
    assert found == {"top_k": 64, "temperature": 1.0} and isinstance(found["top_k"], int)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", "0.7"),
        ("temperature", True),
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", 1e-320),
        ("temperature", [0.7]),
        ("top_p", 0),
        ("top_p", 1.01),
        ("top_k", 1.5),
        ("top_k", -2),
        ("min_p", 1.5),
        ("repetition_penalty", 0),
    ],
)
def test_a_number_that_no_request_could_ask_for_is_refused_by_name(tmp_path: Path, name: str, value: Any) -> None:
    with pytest.raises(BadCheckpoint, match=rf"generation_config\.json: `{name}` must be a .*or remove it"):
        recommended_sampling(declare(tmp_path, **{name: value}))
