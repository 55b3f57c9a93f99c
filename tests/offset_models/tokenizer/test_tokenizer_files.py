"""What a tokenizer is read from is what a checkpoint holds: every kind of file goes there and comes back."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deltaserve.errors import BadCheckpoint, BadRequest
from deltaserve.offset_models.checkpoints.checkpoint import open_checkpoint
from deltaserve.offset_models.checkpoints.pack import pack_pair
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from tests.support.offsets import model_folder

SAID = "{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}"
TOOLS = "{% for t in tools %}{{ t['name'] }}{% endfor %}{{ messages[0]['content'] }}"
HELLO = [{"role": "user", "content": "hello"}]


def write(file: Path, value: Any) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(value if isinstance(value, str) else json.dumps(value), "utf-8")


def changed(file: Path, **values: Any) -> None:
    kept = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    write(file, {name: value for name, value in {**kept, **values}.items() if value is not None})


def config_alone(folder: Path) -> None:
    changed(folder / "tokenizer_config.json", chat_template=f"config {SAID}")


def config_by_name(folder: Path) -> None:
    named = [{"name": "default", "template": f"named {SAID}"}, {"name": "tool_use", "template": TOOLS}]
    changed(folder / "tokenizer_config.json", chat_template=named)


def jinja(folder: Path) -> None:
    config_alone(folder)
    write(folder / "chat_template.jinja", f"jinja é {SAID}")


def template_json(folder: Path) -> None:
    changed(folder / "tokenizer_config.json", chat_template=None)
    write(folder / "chat_template.json", {"chat_template": f"json {SAID}"})


def template_json_by_name(folder: Path) -> None:
    changed(folder / "tokenizer_config.json", chat_template=None)
    write(folder / "chat_template.json", {"chat_template": {"default": f"object {SAID}", "tool_use": TOOLS}})


def without_config(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    write(folder / "chat_template.json", {"chat_template": "{{ messages[0]['content'] }}"})


def additional(folder: Path) -> None:
    jinja(folder)
    write(folder / "additional_chat_templates" / "tool_use.jinja", f"additional {TOOLS}")


def additional_to_json(folder: Path) -> None:
    template_json(folder)
    write(folder / "additional_chat_templates" / "tool_use.jinja", f"additional {TOOLS}")


def ends(folder: Path) -> None:
    write(folder / "generation_config.json", {"eos_token_id": [1, 2, 3]})


def specials(folder: Path) -> None:
    write(folder / "special_tokens_map.json", {"eos_token": "<|im_end|>", "bos_token": {"content": "<|im_start|>"}})


def nothing(folder: Path) -> None:
    changed(folder / "tokenizer_config.json", chat_template=None)


Kind = Callable[[Path], None]
KINDS: list[Kind] = [
    config_alone, config_by_name, jinja, template_json, template_json_by_name, without_config, additional,
    additional_to_json, ends, specials, nothing,
]  # fmt: skip


def facts(folder: Path) -> list[Any]:
    tokenizer = Tokenizer.load(folder)
    return [
        tokenizer.fingerprint,
        tokenizer.eos_ids,
        tokenizer.bos_id,
        tokenizer.vocab_size,
        tokenizer.chat_template,
        tokenizer.answer_end,
        [_rendered(tokenizer, tools) for tools in (None, [{"name": "look"}])],
    ]


def _rendered(tokenizer: Tokenizer, tools: list[dict[str, str]] | None) -> str:
    try:
        return tokenizer.render_chat(HELLO, tools=tools)
    except BadRequest as error:  # the same one, then
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_tokenizer_is_the_one_that_was_read(tmp_path: Path, kind: Kind) -> None:
    source, other, root = model_folder(tmp_path / "o", 1), model_folder(tmp_path / "u", 2), tmp_path / "root"
    kind(source)
    root.mkdir()
    pack_pair(root / "pair", name="pair", initial_folder=source, unlearned_folder=other, licence="MIT")
    assert facts(root / "pair" / "initial") == facts(source)
    manifest = open_checkpoint("pair", root=root).manifest
    assert manifest.tokenizer == Tokenizer.load(source).fingerprint
    assert all((root / "pair" / name).is_file() for name in manifest.files)


@pytest.mark.parametrize("kind", [template_json, additional])
def test_templates_in_files_of_their_own_are_read_and_told_apart_by_the_fingerprint(tmp_path: Path, kind: Kind) -> None:
    folder = model_folder(tmp_path / "o")
    before = Tokenizer.load(folder).fingerprint
    kind(folder)
    found = Tokenizer.load(folder).fingerprint
    assert found.chat_template != before.chat_template
    if kind is additional:
        jinja_only = found
        write(folder / "additional_chat_templates" / "tool_use.jinja", f"changed {TOOLS}")
        assert Tokenizer.load(folder).fingerprint.chat_template != jinja_only.chat_template
        assert Tokenizer.load(folder).render_chat(HELLO, tools=[{"name": "look"}]) == "changed lookhello"


def test_every_file_that_loading_opens_is_packed(tmp_path: Path) -> None:
    source, other = model_folder(tmp_path / "o", 1), model_folder(tmp_path / "u", 2)
    for kind in (ends, specials, additional, template_json):
        kind(source)
    write(source / "added_tokens.json", {})
    read, watching = set[str](), [True]

    def opened(event: str, arguments: Any) -> None:
        if watching[0] and event == "open" and str(arguments[0]).startswith(str(source)):
            read.add(Path(str(arguments[0])).relative_to(source).as_posix())

    sys.addaudithook(opened)  # stays for the process: from here on it only looks at a flag
    try:
        Tokenizer.load(source)
    finally:
        watching[0] = False
    pack_pair(tmp_path / "pair", name="pair", initial_folder=source, unlearned_folder=other, licence="MIT")
    templates = {name for name in read if "chat_template" in name}
    assert templates and {"tokenizer.json", "tokenizer_config.json", "generation_config.json"} <= read
    assert [name for name in read - templates if not (tmp_path / "pair" / "initial" / name).is_file()] == []


@pytest.mark.parametrize(
    "broken",
    [{"chat_template": 5}, {"chat_template": [{"name": "default"}]}, {"chat_template": {"default": None}}, [1]],
)
def test_a_template_file_that_holds_no_template_is_a_sentence(tmp_path: Path, broken: Any) -> None:
    folder = model_folder(tmp_path / "o")
    changed(folder / "tokenizer_config.json", chat_template=None)
    write(folder / "chat_template.json", broken)
    with pytest.raises(BadCheckpoint, match="neither a template nor a list"):
        Tokenizer.load(folder)


def test_a_template_file_that_is_no_text_is_a_sentence(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "o")
    (folder / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(BadCheckpoint, match="not UTF-8"):
        Tokenizer.load(folder)
