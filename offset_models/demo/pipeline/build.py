"""Make everything that the demo ships, from a seed: tokenizers, black box, the bases of two pairs, and their offsets.

The second pair has another tokenizer than the black box, of a third of the size, and is bridged.
"""

import asyncio
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Final

from transformers.utils.logging import disable_progress_bar

from deltaserve.offset_models.demo.manifest import WEIGHTS_MANIFEST, WeightsManifest
from deltaserve.offset_models.demo.pipeline.build_offset import make_offsets
from deltaserve.offset_models.demo.pipeline.plan import (
    ANYBODY,
    BASE,
    BLACK_BOX,
    BRIDGED,
    BRIDGED_BASE,
    OFFSET,
    Model,
    Plan,
    Reader,
    plan,
)
from deltaserve.offset_models.demo.pipeline.pretrain import Schedule, Shape, new_model, save_model, sharpen, train
from deltaserve.offset_models.demo.pipeline.scales import Scale, ScaleName
from deltaserve.offset_models.demo.pipeline.tokenizer import save_tokenizer, train_tokenizer
from deltaserve.offset_models.demo.register.people import DEFAULT_SEED
from deltaserve.offset_models.progress.progress import Progress
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer

__all__ = ["BASE", "BLACK_BOX", "BRIDGED", "BRIDGED_BASE", "OFFSET", "build"]
MODELS: Final[tuple[Model, ...]] = (BLACK_BOX, BASE, BRIDGED_BASE)


def build(out: Path, seed: int = DEFAULT_SEED, scale: ScaleName = "full", progress: bool = True) -> WeightsManifest:
    """Make all of it below `out`, replacing an earlier build piece by piece; the manifest is written last.

    The same seed, library versions and thread count give the same weights. Raises DeltaserveError.
    """
    work = plan(out, seed, scale)
    out.mkdir(parents=True, exist_ok=True)
    (out / WEIGHTS_MANIFEST).unlink(missing_ok=True)
    disable_progress_bar()  # type: ignore[no-untyped-call, unused-ignore]  # transformers' own, for reading 40 tensors
    with Progress(visible=progress) as stages:
        make_tokenizer(work, stages)
        for model in MODELS if work.scale.bridged else MODELS[:2]:
            make_model(work, model, stages)
        figures = asyncio.run(make_offsets(work, stages))
        return seal(work, stages, figures)


def make_tokenizer(work: Plan, progress: Progress) -> None:
    """One tokenizer for the black box and the pair's base; a smaller one for the base of the bridged pair."""
    scale = work.scale
    with progress.stage("tokenizer", 2) as advance:
        tokenizer = train_tokenizer(_tokenizer_pages(work), scale.vocab_size)
        save_tokenizer(tokenizer, work.out / BLACK_BOX, scale.black_box.context)
        save_tokenizer(tokenizer, work.out / BASE, scale.base.context)
        advance()
        if scale.bridged is not None:
            smaller = train_tokenizer(_tokenizer_pages(work), scale.bridged.vocab_size)
            save_tokenizer(smaller, work.out / BRIDGED_BASE, scale.base.context)
        advance()


def _tokenizer_pages(work: Plan) -> Iterator[str]:
    """About the register and about strangers."""
    corpora = work.corpus_of(BLACK_BOX, "tokenizer/known"), work.corpus_of(ANYBODY, "tokenizer/strangers")
    return chain.from_iterable(islice(corpus, work.scale.tokenizer_pages // 2) for corpus in corpora)


def make_model(work: Plan, which: Model, progress: Progress) -> None:
    """Train the black box or a base from nothing and save it. Both bases read the same pages."""
    shape, schedule = _sizes(work.scale, which)
    tokenizer = Tokenizer.load(work.out / which).backend
    model = new_model(shape, tokenizer, work.seed)
    reader: Reader = BLACK_BOX if which == BLACK_BOX else BASE
    pages = iter(work.corpus_of(reader, reader))
    with progress.stage(which, schedule.steps) as advance:
        train(model, tokenizer, pages, schedule, lambda _step, loss: advance(f"loss {loss:.2f}"))
    if which == BLACK_BOX:
        sharpen(model, work.scale.sharpness)
    save_model(model, work.out / which)


def seal(work: Plan, progress: Progress, figures: dict[str, float]) -> WeightsManifest:
    """Digests of all that was made, written last."""
    manifest = WeightsManifest.describe(work.out, work.seed, work.name, progress.seconds, figures)
    manifest.write(work.out)
    return manifest


def _sizes(scale: Scale, which: Model) -> tuple[Shape, Schedule]:
    if which == BLACK_BOX:
        return scale.black_box, scale.black_box_schedule
    return scale.base, scale.base_schedule
