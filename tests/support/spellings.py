"""Tokenizer folders that join words to their prompts, or put spaces before them, each in its own way."""

import json
from collections.abc import Callable
from pathlib import Path

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer

TURNS = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
LLAMA_2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}[Q] {{ m['content'] }} [A]"
    "{% else %} {{ m['content'] | trim }} </s>{% endif %}{% endfor %}"
)
THINKING = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{% if m['role'] == 'assistant' and loop.last %}"
    "{{ '<think>\n\n</think>\n\n' + m['content'] }}{% else %}{{ m['content'] }}{% endif %}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
PIECES = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁<|>/userasitnhkPQA?[]\u00e9"]
MERGES = [("P", "a"), ("▁", "Pa"), ("i", "s"), ("r", "is"), ("Pa", "ris"), ("▁Pa", "ris"), ("▁", "▁"), ("Q", "?")]


def sentencepiece(kind: str) -> Backend:
    vocabulary = {piece: at for at, piece in enumerate(dict.fromkeys([*PIECES, *map("".join, MERGES)]))}
    backend = Backend(models.BPE(vocabulary, MERGES, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if kind == "prepend":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    elif kind == "replace":
        backend.normalizer = normalizers.Replace(" ", "▁")
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=kind, split=kind == "always")
    strip = [] if kind == "replace" else [decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    backend.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return backend


def bytes_of(kind: str) -> Backend:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("P", "a"), ("r", "i"), ("ri", "s"), ("Pa", "ris"), ("Ġ", "Paris"), ("Ċ", "Ċ"), ("ĊĊ", "Ċ"), ("Ġ", "Ġ")]
    names = dict.fromkeys(["<unk>", "<s>", "</s>", *alphabet, *map("".join, merges)])
    backend = Backend(models.BPE({name: at for at, name in enumerate(names)}, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=kind == "spaced bytes")
    backend.decoder = decoders.ByteLevel()
    if kind == "bytes with <s>":
        backend.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return backend


KINDS: dict[str, Callable[[str], Backend]] = {
    **dict.fromkeys(("prepend", "replace", "first", "always", "never"), sentencepiece),
    **dict.fromkeys(("bytes", "spaced bytes", "bytes with <s>"), bytes_of),
}


def loaded(folder: Path, kind: str, template: str = TURNS) -> Tokenizer:
    backend = KINDS[kind](kind)
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    backend.save(str(folder / "tokenizer.json"))
    config = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return Tokenizer.load(folder)
