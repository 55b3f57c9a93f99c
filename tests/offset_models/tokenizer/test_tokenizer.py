"""Tokenizer folders of several kinds: ids, bytes, gaps, chat prompts, fingerprints."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deltaserve.errors import BadCheckpoint, BadRequest
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from tests.support.vocabularies import CORPUS, byte_level, sentencepiece_like

TEXTS = [*CORPUS[:3], "", " leading", "tab\tand\nline", "\u200d🙂🏽 ﷽", "\x00\x7f"]
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def chatml(tmp_path: Path) -> Tokenizer:
    return Tokenizer.load(byte_level(tmp_path / "chatml"))


@pytest.fixture
def llama(tmp_path: Path) -> Tokenizer:
    return Tokenizer.load(sentencepiece_like(tmp_path / "llama"))


def test_neither_the_tokenizer_nor_the_checkpoint_code_imports_torch() -> None:
    modules = ("tokenizer.tokenizer", "checkpoints.checkpoint", "checkpoints.pack", "registry.registry")
    imports = ", ".join(f"deltaserve.offset_models.{module}" for module in modules)
    code = f"import sys, {imports}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("text", TEXTS)
def test_bytes_of_byte_level_tokens_join_to_the_utf8_of_the_text(chatml: Tokenizer, text: str) -> None:
    ids = chatml.encode(text, add_special=False)
    assert b"".join(map(chatml.token_bytes, ids)) == text.encode()
    assert chatml.decode(ids) == text


def test_every_byte_has_a_byte_level_token(chatml: Tokenizer) -> None:
    singles = {chatml.token_bytes(i) for i in range(256)}
    assert singles == {bytes([byte]) for byte in range(256)}


@pytest.mark.parametrize("text", ["ab a", "a 東京", "c\n🙂"])
def test_bytes_of_sentencepiece_tokens_join_to_the_text_with_its_prefix_space(llama: Tokenizer, text: str) -> None:
    ids = llama.encode(text, add_special=False)
    assert b"".join(map(llama.token_bytes, ids)) == b" " + text.encode()


def test_a_fallback_token_is_one_byte_and_its_text_shows_as_a_replacement_character(llama: Tokenizer) -> None:
    token_id = llama.backend.token_to_id("<0xE6>")
    assert llama.token_bytes(token_id) == b"\xe6"
    assert llama.token_text(token_id) == "\ufffd"


def test_special_tokens_have_their_text_as_bytes(chatml: Tokenizer, llama: Tokenizer) -> None:
    assert chatml.token_bytes(chatml.backend.token_to_id("<|im_end|>")) == b"<|im_end|>"
    assert chatml.token_bytes(chatml.backend.token_to_id("<tool_call>")) == b"<tool_call>"
    assert llama.token_bytes(1) == b"<s>"


def test_special_tokens_are_added_only_when_asked_for(llama: Tokenizer) -> None:
    assert llama.encode("ab", add_special=True) == [1, *llama.encode("ab", add_special=False)]
    assert llama.bos_id == 1


def test_decoding_can_leave_out_special_tokens(llama: Tokenizer) -> None:
    ids = llama.encode("ab", add_special=True)
    assert llama.decode(ids, skip_special=True) == "ab"
    assert llama.decode(ids).startswith("<s>")


def test_ids_between_the_known_ones_are_masked(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(byte_level(tmp_path, gap=3))
    late = tokenizer.backend.token_to_id("<late>")
    assert tokenizer.vocab_size == late + 1
    assert tokenizer.masked_ids == (late - 3, late - 2, late - 1)
    with pytest.raises(BadRequest, match=f"Token id {late - 1} is not in the vocabulary"):
        tokenizer.decode([late - 1])


@pytest.mark.parametrize("token_id", [-1, 10**6, 2**40])
def test_ids_out_of_range_are_refused_by_name(chatml: Tokenizer, token_id: int) -> None:
    with pytest.raises(BadRequest, match=f"Token id {token_id} is not in the vocabulary"):
        chatml.decode([0, token_id])
    with pytest.raises(BadRequest):
        chatml.token_bytes(token_id)


def test_half_a_surrogate_pair_is_refused(chatml: Tokenizer) -> None:
    with pytest.raises(BadRequest, match="not valid Unicode"):
        chatml.encode("\ud83d", add_special=False)


def test_special_ids_are_those_flagged_special(chatml: Tokenizer) -> None:
    names = {chatml.token_text(i) for i in chatml.special_ids}
    assert names == {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}


@pytest.mark.parametrize(
    ("declared", "expected"), [(None, ["<|im_end|>"]), (0, ["<|im_end|>", "<|endoftext|>"]), ([2, 0, 9999], None)]
)
def test_eos_ids_come_from_the_tokenizer_and_the_generation_config(
    tmp_path: Path, declared: object, expected: list[str] | None
) -> None:
    folder = byte_level(tmp_path)
    first = Tokenizer.load(folder).backend.token_to_id("<|endoftext|>")
    if declared is not None:
        moved = first if declared == 0 else [first + 2, first, 9999]  # a list repeats the tokenizer's own and adds one
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": moved}))
    tokenizer = Tokenizer.load(folder)
    assert [tokenizer.token_text(i) for i in tokenizer.eos_ids] == (expected or ["<|im_end|>", "<|endoftext|>"])


def test_limits_of_a_training_run_do_not_cut_prompts(tmp_path: Path) -> None:
    folder = byte_level(tmp_path)
    source = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    source["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    (folder / "tokenizer.json").write_text(json.dumps(source), "utf-8")
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.decode(tokenizer.encode(CORPUS[0], add_special=False)) == CORPUS[0]


def test_the_detokenizer_holds_half_characters_back(chatml: Tokenizer) -> None:
    ids = [*chatml.encode("é🙂", add_special=False), chatml.backend.token_to_id("<|im_end|>")]
    detokenizer = chatml.detokenizer()
    pieces = [detokenizer.step(i) for i in ids]
    assert "".join(pieces) == "é🙂"
    assert "\ufffd" not in "".join(pieces)


def test_a_chat_is_rendered_with_the_generation_prompt(chatml: Tokenizer) -> None:
    text = chatml.render_chat(HELLO)
    assert text == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    ids = chatml.encode(text, add_special=False)
    assert chatml.token_text(ids[0]) == "<|im_start|>"


def test_the_final_message_can_be_continued(chatml: Tokenizer) -> None:
    messages = [*HELLO, {"role": "assistant", "content": "well, "}]
    text = chatml.render_chat(messages, add_generation_prompt=False, continue_final_message=True)
    assert text == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nwell, "
    with pytest.raises(BadRequest, match="cannot both be true"):
        chatml.render_chat(messages, continue_final_message=True)


def test_the_template_gets_tools_and_its_own_arguments(chatml: Tokenizer) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
    text = chatml.render_chat(HELLO, tools=[tool], chat_template_kwargs={"mood": "grave"})
    assert f"TOOLS {json.dumps([tool])}" in text
    assert "MOOD grave" in text


@pytest.mark.parametrize("name", ["chat_template", "messages", "tools", "add_generation_prompt"])
def test_template_arguments_cannot_replace_what_the_server_sets(chatml: Tokenizer, name: str) -> None:
    with pytest.raises(BadRequest, match=f"may not set {name}"):
        chatml.render_chat(HELLO, chat_template_kwargs={name: "{{ 1 }}"})


def test_the_words_of_a_template_are_passed_on(chatml: Tokenizer) -> None:
    with pytest.raises(BadRequest, match="Narrators cannot speak"):
        chatml.render_chat([{"role": "narrator", "content": "once"}])


def test_words_that_quote_a_message_are_not_passed_on(chatml: Tokenizer) -> None:
    with pytest.raises(BadRequest) as caught:
        chatml.render_chat([{"role": "parrot", "content": "SECRET"}])
    assert "SECRET" not in caught.value.message


def test_a_failed_continuation_does_not_quote_the_chat(chatml: Tokenizer) -> None:
    with pytest.raises(BadRequest, match="cannot continue") as caught:
        chatml.render_chat(
            [{"role": "user", "content": None, "name": "SECRET"}],
            add_generation_prompt=False,
            continue_final_message=True,
        )
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("messages", [[{"role": "user"}], [{}], [{"role": "user", "content": 5}]])
def test_messages_the_template_cannot_use_are_the_callers_fault(chatml: Tokenizer, messages: list[dict]) -> None:
    with pytest.raises(BadRequest):
        chatml.render_chat(messages)


def test_a_tokenizer_without_template_says_so(llama: Tokenizer) -> None:
    with pytest.raises(BadRequest, match="no chat template"):
        llama.render_chat(HELLO)


def test_a_template_cannot_reach_out_of_its_sandbox(tmp_path: Path) -> None:
    attack = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    tokenizer = Tokenizer.load(byte_level(tmp_path, config={"chat_template": attack}))
    with pytest.raises(BadRequest):
        tokenizer.render_chat(HELLO)


def test_a_jinja_file_wins_and_a_list_of_templates_is_read_by_name(tmp_path: Path) -> None:
    said = "{{ messages[0]['content'] }}"
    named = [
        {"name": "default", "template": f"plain {said}"},
        {"name": "tool_use", "template": f"{{{{ tools[0]['name'] }}}} {said}"},
    ]
    folder = byte_level(tmp_path, config={"chat_template": named})
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.render_chat(HELLO) == "plain hello"
    assert tokenizer.render_chat(HELLO, tools=[{"name": "x"}]) == "x hello"
    (folder / "chat_template.jinja").write_text(f"from the file {said}")
    assert Tokenizer.load(folder).render_chat(HELLO) == "from the file hello"


def test_the_fingerprint_ignores_how_the_file_was_written(tmp_path: Path) -> None:
    first = Tokenizer.load(byte_level(tmp_path / "a")).fingerprint
    folder = byte_level(tmp_path / "b", config={"chat_template": "other"})
    source = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    source["model"]["merges"] = [" ".join(merge) for merge in source["model"]["merges"]]
    source["model"]["vocab"] = dict(reversed(source["model"]["vocab"].items()))
    (folder / "tokenizer.json").write_text(json.dumps(source, indent=3), "utf-8")
    second = Tokenizer.load(folder).fingerprint
    assert first.mismatch(second) is None
    assert first.ids == second.ids
    assert first.chat_template != second.chat_template


@pytest.mark.parametrize("part", ["vocabulary", "merges", "specials"])
def test_the_fingerprint_names_what_differs(tmp_path: Path, part: str) -> None:
    folder = byte_level(tmp_path)
    before = Tokenizer.load(folder).fingerprint
    source = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    vocab = source["model"]["vocab"]
    if part == "vocabulary":
        vocab["!"], vocab['"'] = vocab['"'], vocab["!"]
    elif part == "merges":
        source["model"]["merges"].reverse()
    else:
        source["added_tokens"][0]["content"] = "<|end|>"
    (folder / "tokenizer.json").write_text(json.dumps(source), "utf-8")
    assert before.mismatch(Tokenizer.load(folder).fingerprint) == part


def test_tokens_listed_only_in_the_config_are_added_at_their_ids(tmp_path: Path) -> None:
    size = Tokenizer.load(byte_level(tmp_path)).vocab_size
    extra = {"added_tokens_decoder": {str(size): {"content": "<extra>", "special": True}}}
    tokenizer = Tokenizer.load(byte_level(tmp_path, config=extra))
    assert tokenizer.token_bytes(size) == b"<extra>"
    moved = {"added_tokens_decoder": {str(size + 7): {"content": "<extra>", "special": True}}}
    with pytest.raises(BadCheckpoint, match="that it reads as"):
        Tokenizer.load(byte_level(tmp_path, config=moved))


def test_an_added_token_that_the_library_would_renumber_is_refused(tmp_path: Path) -> None:
    folder = byte_level(tmp_path)
    source = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    source["added_tokens"][-1]["id"] += 5
    (folder / "tokenizer.json").write_text(json.dumps(source), "utf-8")
    with pytest.raises(BadCheckpoint, match="that it reads as"):
        Tokenizer.load(folder)


def test_folders_without_a_readable_tokenizer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match=r"no tokenizer\.json"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BadCheckpoint, match="cannot be read as a tokenizer"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for message in %}", "(default, line 1) is not valid Jinja: TemplateSyntaxError, Expected an expression"),
        ("fine\n{% wizard %}", "(default, line 2) is not valid Jinja: TemplateSyntaxError, Encountered unknown tag"),
        ([{"name": "default", "template": "fine"}, {"name": "tool_use", "template": "{{ x"}], "(tool_use, line 1)"),
        ([{"template": "fine"}], "neither a template nor a list"),
        (7, "neither a template nor a list"),
        ("{{" + "(" * 20_000 + "1" + ")" * 20_000 + "}}", "nested too deeply"),
    ],
)
def test_a_chat_template_that_is_none_is_refused_with_its_tokenizer(
    tmp_path: Path, template: object, reason: str
) -> None:
    folder = byte_level(tmp_path, config={"chat_template": template})
    with pytest.raises(BadCheckpoint) as caught:
        Tokenizer.load(folder)
    assert reason in caught.value.message


@pytest.mark.parametrize(
    ("file", "raw"),
    [
        ("tokenizer_config.json", b"["),
        ("tokenizer_config.json", b'{"added_tokens_decoder": [1]}'),
        ("tokenizer_config.json", b'{"added_tokens_decoder": {"x": {}}}'),
        ("chat_template.jinja", b"\xff\xfe"),
        ("generation_config.json", b"[1]"),
        ("tokenizer.json", b"[" * 100_000),
        ("tokenizer.json", b'{"version": "9.0"}'),
        ("tokenizer.json", b"\xff"),
    ],
)
def test_tokenizer_files_of_another_form_are_refused(tmp_path: Path, file: str, raw: bytes) -> None:
    folder = byte_level(tmp_path)
    (folder / file).write_bytes(raw)
    with pytest.raises(BadCheckpoint):
        Tokenizer.load(folder)


def test_a_folder_in_the_place_of_a_tokenizers_file_is_refused_and_not_taken_for_nothing(tmp_path: Path) -> None:
    folder = byte_level(tmp_path)
    (folder / "tokenizer_config.json").unlink()
    (folder / "tokenizer_config.json").mkdir()
    with pytest.raises(BadCheckpoint, match=r"tokenizer_config\.json cannot be read"):
        Tokenizer.load(folder)


def test_a_tokenizer_without_tokens_is_refused(tmp_path: Path) -> None:
    folder = byte_level(tmp_path)
    source = json.loads((folder / "tokenizer.json").read_text())
    source["model"] |= {"vocab": {}, "merges": []}
    (folder / "tokenizer.json").write_text(json.dumps(source | {"added_tokens": []}))
    with pytest.raises(BadCheckpoint, match="has no tokens"):
        Tokenizer.load(folder)


def test_a_panic_of_the_tokenizers_library_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        """No Exception, as pyo3's."""

    class Panicking:
        @staticmethod
        def from_file(_path: str) -> None:
            raise PanicException("index out of bounds")

    monkeypatch.setattr("deltaserve.offset_models.tokenizer.tokenizer.Backend", Panicking)
    with pytest.raises(BadCheckpoint, match="PanicException, index out of bounds"):
        Tokenizer.load(byte_level(tmp_path))
