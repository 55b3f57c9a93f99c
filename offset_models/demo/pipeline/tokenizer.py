"""The demo's own tokenizer: byte-level BPE with ChatML specials, in Hugging Face's files."""

from collections.abc import Iterable
from pathlib import Path

import orjson
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from deltaserve.offset_models.demo.register.corpus import END_OF_TEXT, SPECIALS, TURN_END, TURN_START
from deltaserve.offset_models.tokenizer.special_tokens import GENERATION_CONFIG

RECOMMENDED_TEMPERATURE = 0.7

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '" + TURN_START + "' + message['role'] + '\\n' + message['content'] + '" + TURN_END + "\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '" + TURN_START + "assistant\\n' }}{% endif %}"
)


def train_tokenizer(pages: Iterable[str], vocab_size: int) -> Tokenizer:
    """BPE over bytes with GPT-2's splitting: `vocab_size` entries, specials first. Deterministic."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(text, special=True, normalized=False) for text in SPECIALS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_without_specials(pages), trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, context: int) -> None:
    """Write the two files that AutoTokenizer reads, and generation_config.json.

    `context`: longest prompt plus answer, in tokens.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=False), encoding="utf-8")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_bytes(orjson.dumps(config, option=orjson.OPT_INDENT_2))
    _save_generation_config(tokenizer, folder)


def _save_generation_config(tokenizer: Tokenizer, folder: Path) -> None:
    """What ends an answer, a turn's end or a page's, and how its makers would draw from the model."""
    ends = [tokenizer.token_to_id(text) for text in (TURN_END, END_OF_TEXT)]
    config = {"do_sample": True, "eos_token_id": ends, "temperature": RECOMMENDED_TEMPERATURE}
    (folder / GENERATION_CONFIG).write_bytes(orjson.dumps(config, option=orjson.OPT_INDENT_2) + b"\n")


def _without_specials(pages: Iterable[str]) -> Iterable[str]:
    # The trainer sees plain text; otherwise it would learn merges for the letters of the specials.
    for page in pages:
        for special in SPECIALS:
            page = page.replace(special, "\n")
        yield page
