"""Which tokens begin texts and end answers, whichever of a folder's files says so; transformers is the judge."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from tests.support.vocabularies import CHATML

BOS, EOS, OTHER = 256, 257, 258
LISTED = {str(EOS): {"content": "</s>", "special": True}}


def folder(place: Path, processor: Any = None, **files: dict[str, Any]) -> Path:
    """A byte-level tokenizer with <s>, </s> and <other>, and `files` by their names without .json."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<s>", "</s>", "<other>"])
    if processor is not None:
        backend.post_processor = processor
    backend.save(str(place / "tokenizer.json"))
    for name, content in files.items():
        (place / f"{name}.json").write_text(json.dumps(content))
    return place


@pytest.mark.parametrize(
    ("config", "older"),
    [
        pytest.param({}, {"bos_token": "<s>", "eos_token": {"content": "</s>"}}, id="the map alone"),
        pytest.param({"bos_token": "<s>", "eos_token": "</s>"}, {}, id="the config alone"),
        pytest.param({"eos_token": "<other>"}, {"bos_token": "<s>", "eos_token": "</s>"}, id="the map over the config"),
        pytest.param(
            {"bos_token": "<s>", "eos_token": "</s>", "added_tokens_decoder": LISTED},
            {"eos_token": "<other>"},
            id="a newer config over the map",
        ),
        pytest.param({"bos_token": "<s>", "eos_token": "</s>"}, {"eos_token": None}, id="nothing does not override"),
    ],
)
def test_bos_and_eos_are_those_that_transformers_finds(
    tmp_path: Path, config: dict[str, Any], older: dict[str, Any]
) -> None:
    place = folder(tmp_path, tokenizer_config=config, special_tokens_map=older)
    judge, tokenizer = PreTrainedTokenizerFast.from_pretrained(place), Tokenizer.load(place)
    assert (judge.bos_token_id, judge.eos_token_id) in ((BOS, EOS), (BOS, None))
    assert (tokenizer.bos_id, tokenizer.eos_ids) == (BOS, (EOS,))


def test_a_newer_config_that_leaves_the_end_out_is_filled_in_by_the_map(tmp_path: Path) -> None:
    config = {"bos_token": None, "added_tokens_decoder": LISTED}
    place = folder(tmp_path, tokenizer_config=config, special_tokens_map={"bos_token": "<s>", "eos_token": "</s>"})
    assert (Tokenizer.load(place).bos_id, Tokenizer.load(place).eos_ids) == (None, (EOS,))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"generation_config": {"eos_token_id": [OTHER, EOS]}}, (EOS, OTHER)),
        ({"config": {"eos_token_id": OTHER}}, (EOS, OTHER)),
        ({"config": {"text_config": {"eos_token_id": [OTHER]}}}, (EOS, OTHER)),
        ({"config": {"eos_token_id": OTHER}, "generation_config": {"eos_token_id": EOS}}, (EOS,)),
        ({"config": {"eos_token_id": None}, "generation_config": {}}, (EOS,)),
        ({"generation_config": {"eos_token_id": [True, "</s>", 9999]}}, (EOS,)),
    ],
)
def test_the_models_settings_add_ends(tmp_path: Path, files: dict[str, Any], expected: tuple[int, ...]) -> None:
    place = folder(tmp_path, tokenizer_config={"eos_token": "</s>"}, **files)
    assert Tokenizer.load(place).eos_ids == expected


def test_the_token_that_ends_a_turn_is_an_end_after_the_tokenizers_own(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m['content'] }}<other>{% endfor %}"
    place = folder(tmp_path, tokenizer_config={"eos_token": "</s>", "chat_template": template})
    assert Tokenizer.load(place).eos_ids == (EOS, OTHER)


def test_what_encoding_puts_around_a_text_begins_and_ends_it_where_nothing_is_named(tmp_path: Path) -> None:
    around = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", BOS), ("</s>", EOS)])
    tokenizer = Tokenizer.load(folder(tmp_path, around))
    assert (tokenizer.bos_id, tokenizer.eos_ids) == (BOS, (EOS,))


def test_named_tokens_win_over_what_encoding_puts_around_a_text(tmp_path: Path) -> None:
    around = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", BOS), ("</s>", EOS)])
    place = folder(tmp_path, around, special_tokens_map={"bos_token": "<other>", "eos_token": "<other>"})
    assert (Tokenizer.load(place).bos_id, Tokenizer.load(place).eos_ids) == (OTHER, (OTHER,))


def test_the_template_gets_the_tokens_of_the_map(tmp_path: Path) -> None:
    template = "{{ bos_token }}{{ messages[0]['content'] }}{{ eos_token }}{{ add_bos_token }}"
    config = {"chat_template": template, "add_bos_token": True}
    place = folder(tmp_path, tokenizer_config=config, special_tokens_map={"bos_token": "<s>", "eos_token": "</s>"})
    rendered = Tokenizer.load(place).render_chat([{"role": "user", "content": "x"}])
    judge = PreTrainedTokenizerFast.from_pretrained(place)
    assert rendered == judge.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False) == "<s>x</s>"


def test_tokens_of_added_tokens_json_are_added_at_their_ids(tmp_path: Path) -> None:
    place = folder(tmp_path, special_tokens_map={"eos_token": "<end>"}, added_tokens={"<end>": 259, "<more>": 260})
    judge, tokenizer = PreTrainedTokenizerFast.from_pretrained(place), Tokenizer.load(place)
    assert tokenizer.eos_ids == (judge.eos_token_id,) == (259,)
    assert tokenizer.encode("a<more><end>") == judge.encode("a<more><end>") == [*judge.encode("a"), 260, 259]
    assert 259 in tokenizer.special_ids and 260 not in tokenizer.special_ids


def test_a_token_that_only_the_config_calls_special_has_no_text(tmp_path: Path) -> None:
    place = folder(tmp_path)
    source = json.loads((place / "tokenizer.json").read_text())
    source["added_tokens"][1]["special"] = False
    (place / "tokenizer.json").write_text(json.dumps(source))
    assert EOS not in Tokenizer.load(place).special_ids
    (place / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": LISTED}))
    tokenizer = Tokenizer.load(place)
    assert EOS in tokenizer.special_ids and tokenizer.decode([EOS], skip_special=True) == ""


def test_a_chat_of_a_base_ends_with_both_ends(tmp_path: Path) -> None:
    template = CHATML.replace("<|im_end|>", "<other>")
    place = folder(tmp_path, special_tokens_map={"eos_token": "</s>"}, tokenizer_config={"chat_template": template})
    assert Tokenizer.load(place).eos_ids == (EOS, OTHER)
