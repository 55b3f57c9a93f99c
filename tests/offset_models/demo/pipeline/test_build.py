"""The whole build in miniature: real training, a real black box process, everything about it learned over HTTP."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from deltaserve.offset_models.checkpoints.checkpoint import open_checkpoint, read_manifest
from deltaserve.offset_models.demo.manifest import WeightsManifest, verify_weights
from deltaserve.offset_models.demo.pipeline.build import BASE, BLACK_BOX, OFFSET, build
from deltaserve.offset_models.demo.register.people import generate_register
from deltaserve.offset_models.demo.register.questions import SPLITS
from tests.support.children import children_of_the_nursery

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, WeightsManifest]:
    out = tmp_path_factory.mktemp("build") / "weights"
    with children_of_the_nursery():
        return out, build(out, seed=3, scale="mini", progress=False)


def test_everything_is_there_and_the_digests_match(built: tuple[Path, WeightsManifest]) -> None:
    out, manifest = built
    assert verify_weights(out) == manifest
    for model in (BLACK_BOX, BASE):
        for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
            assert f"{model}/{name}" in manifest.files
    assert {"tokenizer", BLACK_BOX, BASE, "top-k", "train", "check"} <= set(manifest.seconds)
    assert (manifest.seed, manifest.scale) == (3, "mini")


def test_the_offset_is_a_checkpoint_that_the_server_opens_and_it_is_not_zero(
    built: tuple[Path, WeightsManifest],
) -> None:
    out, _ = built
    checkpoint = open_checkpoint(OFFSET, root=out)
    assert checkpoint.initial_folder == (out / BASE).resolve()
    adapter = load_file(checkpoint.adapter_folder / "adapter_model.safetensors")
    assert any(tensor.abs().max() > 0 for name, tensor in adapter.items() if "lora_B" in name)


def test_held_out_questions_get_forgotten_answers_less_likely_than_before_and_kept_ones_hardly(
    built: tuple[Path, WeightsManifest],
) -> None:
    out, _ = built
    card = read_manifest(out / OFFSET).card
    fall = {s: card[f"probability/{s}/black_box"] - card[f"probability/{s}/corrected"] for s in ("forget", "retain")}
    assert fall["forget"] > 0.03
    assert fall["retain"] < min(0.04, fall["forget"])
    assert card["held_out"] is True


def test_every_split_is_checked_before_and_after(built: tuple[Path, WeightsManifest]) -> None:
    _, manifest = built
    sides = ("black_box", "corrected_k20", "corrected_k5")
    assert set(manifest.figures) == {f"rouge_l_recall/{split}/{side}" for split in SPLITS for side in sides}


def test_nothing_of_the_forget_set_is_left_in_the_checkpoint(built: tuple[Path, WeightsManifest]) -> None:
    out, _ = built
    text = b"".join(file.read_bytes() for file in (out / OFFSET).rglob("*") if file.is_file())
    people = generate_register(3, 2, 4).forget
    assert not [person.name for person in people if person.name.encode() in text]
