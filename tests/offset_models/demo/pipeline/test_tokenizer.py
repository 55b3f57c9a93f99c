"""The demo's tokenizer in the hands of those who load it: our own reader, tokenizers, and transformers."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer as Backend
from transformers import AutoTokenizer

from deltaserve.offset_models.demo.pipeline.tokenizer import save_tokenizer, train_tokenizer
from deltaserve.offset_models.demo.register.corpus import SPECIALS, chat_page
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer

PAGES = [
    chat_page([("Where was Ada born?", "Ada was born in Velmora.")]),
    "Ada wrote The Silent Orchard.<|endoftext|>",
] * 5
SIZE = 340


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(train_tokenizer(PAGES, SIZE), folder, 256)
    return folder


def test_specials_come_first_and_are_one_token_each(folder: Path) -> None:
    backend = Backend.from_file(str(folder / "tokenizer.json"))
    assert [backend.encode(special).ids for special in SPECIALS] == [[0], [1], [2]]
    assert backend.get_vocab_size() <= SIZE


@pytest.mark.parametrize("text", ["Ada wrote.", "  two  spaces\n", "naïve café 日本 🜚", "", "Ġ<|im_end|>x"])
def test_any_text_comes_back_from_its_ids(folder: Path, text: str) -> None:
    backend = Backend.from_file(str(folder / "tokenizer.json"))
    assert backend.decode(backend.encode(text).ids, skip_special_tokens=False) == text


def test_transformers_and_our_reader_agree(folder: Path) -> None:
    theirs, ours = AutoTokenizer.from_pretrained(folder), Tokenizer.load(folder)
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Where was Ada born?"}]
    text = ours.render_chat(messages)
    assert theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == text
    assert theirs(text, add_special_tokens=False)["input_ids"] == ours.encode(text, False)
    assert theirs.eos_token_id == ours.eos_ids[0] == 2
    assert theirs.model_max_length == 256


def test_a_rendered_chat_is_the_start_of_the_page_that_was_trained_on(folder: Path) -> None:
    prompt = Tokenizer.load(folder).render_chat([{"role": "user", "content": "Where was Ada born?"}])
    assert PAGES[0] == prompt + "Ada was born in Velmora.<|im_end|>\n"


def test_training_is_repeatable() -> None:
    assert train_tokenizer(PAGES, SIZE).to_str() == train_tokenizer(iter(PAGES), SIZE).to_str()
