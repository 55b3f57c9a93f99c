"""The end of a chat's turn is read off the template, whatever the tokenizer calls its end of text."""

import json
from pathlib import Path

import pytest

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from tests.support.vocabularies import CHATML, byte_level, sentencepiece_like

EACH = "{% for m in messages %}"
NEXT = "{% endfor %}"


def with_template(folder: Path, template: str | None, **config: str) -> Tokenizer:
    return Tokenizer.load(byte_level(folder, config={"chat_template": template, "eos_token": "<|endoftext|>"} | config))


@pytest.mark.parametrize(
    "template",
    [
        pytest.param(CHATML, id="another token than the eos"),
        pytest.param(EACH + "{{ m['content'] | trim + ' \n<|im_end|>' }}" + NEXT, id="white space before it"),
        pytest.param(
            EACH + "{{ m['content'] }}{% if not loop.last %}<|im_end|>{% endif %}" + NEXT, id="not behind the last turn"
        ),
        pytest.param(
            EACH + "{{ ('<|im_end|>' if m['role'] == 'user' else '<|im_start|>') + m['content'] }}" + NEXT,
            id="the mark that opens the user's turn",
        ),
        pytest.param(
            EACH + "{{ '<|im_start|>' + (m['content'] | replace('T', '<|endoftext|>T')) + '<|im_end|>' }}" + NEXT,
            id="marks before the words",
        ),
    ],
)
def test_the_turn_end_is_the_mark_behind_an_assistants_words(tmp_path: Path, template: str) -> None:
    tokenizer = with_template(tmp_path, template)
    assert tokenizer.turn_end_id == tokenizer.backend.token_to_id("<|im_end|>")


@pytest.mark.parametrize(
    "template",
    [
        pytest.param(None, id="no template"),
        pytest.param(EACH + "{{ m['role'] + ': ' + m['content'] + '\n' }}" + NEXT, id="plain text between turns"),
        pytest.param(EACH + "{{ bos_token + m['content'] }}" + NEXT, id="only a beginning of text"),
        pytest.param("{{ raise_exception('No chats.') }}", id="a template that refuses"),
        pytest.param("<|im_end|>", id="words left out"),
    ],
)
def test_where_no_mark_follows_there_is_no_turn_end(tmp_path: Path, template: str | None) -> None:
    assert with_template(tmp_path, template, bos_token="<|im_start|>").turn_end_id is None


def test_one_token_may_begin_texts_and_end_turns(tmp_path: Path) -> None:
    tokenizer = with_template(tmp_path, EACH + "{{ m['content'] + eos_token }}" + NEXT, bos_token="<|endoftext|>")
    assert tokenizer.turn_end_id == tokenizer.bos_id


def test_the_turn_end_of_a_sentencepiece_vocabulary_is_found(tmp_path: Path) -> None:
    folder = sentencepiece_like(tmp_path)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    template = EACH + "{{ '<s>' + m['content'] + ' ' + eos_token }}" + NEXT
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": template}))
    assert Tokenizer.load(folder).turn_end_id == 2
