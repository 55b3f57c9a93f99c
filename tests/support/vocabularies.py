"""Small tokenizer folders of the kinds met in the wild, made from nothing."""

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = ["The river runs north of the town.", "Who wrote the book? I'm not sure.", "naïve café — 東京 🙂"] * 4

CHATML = (
    "{%- for message in messages %}"
    "{%- if message['role'] == 'narrator' %}{{ raise_exception('Narrators cannot speak.') }}{%- endif %}"
    "{%- if message['role'] == 'parrot' %}{{ raise_exception('Not this: ' + message['content']) }}{%- endif %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if tools %}{{ 'TOOLS ' + (tools | tojson) }}{%- endif %}"
    "{%- if mood is defined %}{{ 'MOOD ' + mood }}{%- endif %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}"
)


def byte_level(folder: Path, *, config: dict[str, Any] | None = None, gap: int = 0) -> Path:
    """Byte-level BPE with ChatML specials, as Qwen's; `gap` moves a further added token past unused ids."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    backend.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    backend.add_tokens([AddedToken("<tool_call>", special=False)])
    source = json.loads(backend.to_str())
    if gap:
        last = max(token["id"] for token in source["added_tokens"])
        extra = source["added_tokens"][-1] | {"id": last + 1 + gap, "content": "<late>", "special": True}
        source["added_tokens"].append(extra)
        # Ids that do not follow the vocabulary's end are kept only for added tokens that stand in the vocabulary too.
        source["model"]["vocab"] |= {token["content"]: token["id"] for token in source["added_tokens"]}
    return _write(folder, source, {"eos_token": "<|im_end|>", "chat_template": CHATML} | (config or {}))


def sentencepiece_like(folder: Path) -> Path:
    """BPE with ▁ for spaces and byte fallback, as Llama 2's."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", "a", "b", "▁a", "ab", "▁ab", "c"]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    merges = [("▁", "a"), ("a", "b"), ("▁a", "b")]
    backend = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    config = {"bos_token": {"content": "<s>", "__type": "AddedToken"}, "eos_token": "</s>", "unk_token": "<unk>"}
    return _write(folder, json.loads(backend.to_str()), config)


def _write(folder: Path, source: dict[str, Any], config: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(source), "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return folder
