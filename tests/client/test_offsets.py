import json
from pathlib import Path

import pytest

from deltaserve.client.console.terminal import Status
from tests.support.command import Command
from tests.support.offsets import adapter_folder, lora_checkpoint, model_folder


def test_inspect_shows_what_the_checkpoint_says(command: Command, tmp_path: Path):
    manifest = lora_checkpoint(tmp_path / "root", "first")
    found = command.json("offsets", "inspect", str(tmp_path / "root" / "first"))
    assert (found["name"], found["content_digest"], found["tensors"]) == ("first", manifest.content_digest, 2)
    plain = command("offsets", "inspect", str(tmp_path / "root" / "first"))
    assert manifest.content_digest in plain.stdout and "base.path" in plain.stdout and not plain.stderr


def test_inspect_of_something_else_is_refused_with_a_sentence(command: Command, tmp_path: Path):
    result = command("offsets", "inspect", str(tmp_path / "nothing"))
    assert (result.exit_code, result.stdout) == (Status.REFUSED, "") and "is not a folder" in result.stderr


def test_an_adapter_and_its_base_are_packed(command: Command, tmp_path: Path):
    base, adapter = model_folder(_made(tmp_path / "base")), adapter_folder(tmp_path / "adapter")
    about = ("--name", "mine", "--licence", "MIT", "--strength", "0.5", "--base-path", "../base")
    made = command.json("offsets", "pack", "out", "--adapter", str(adapter), "--base", str(base), *about)
    manifest = json.loads((tmp_path / "out" / "offset.json").read_text())
    assert (made["kind"], made["name"]) == ("lora", "mine")
    assert (manifest["strength"], manifest["licence"], manifest["base"]["path"]) == (0.5, "MIT", "../base")


def test_two_models_are_packed(command: Command, tmp_path: Path):
    folders = [str(model_folder(_made(tmp_path / name), seed)) for seed, name in enumerate(("one", "two"))]
    given = ("--initial", folders[0], "--unlearned", folders[1], "--name", "mine", "--licence", "MIT")
    result = command("offsets", "pack", "out", *given)
    assert result.exit_code == 0 and "offset mine, full" in result.stdout
    again = command("offsets", "pack", "out", *given)
    assert again.exit_code == Status.REFUSED and (tmp_path / "out" / "offset.json").is_file()


@pytest.mark.parametrize(
    "given", [(), ("--adapter", "a"), ("--adapter", "a", "--base", "b", "--initial", "c"), ("--initial", "c")]
)
def test_one_of_the_two_models_alone_is_a_usage_error(command: Command, given: tuple[str, ...]):
    result = command("offsets", "pack", "out", "--name", "a", "--licence", "MIT", *given)
    assert result.exit_code == Status.USAGE and "--adapter and --base" in result.stderr


def test_the_schema_is_the_published_one(command: Command):
    from deltaserve.offset_models.checkpoints.manifest import manifest_json_schema

    assert json.loads(command("offsets", "schema").stdout) == manifest_json_schema()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
