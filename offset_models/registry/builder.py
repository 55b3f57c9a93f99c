"""Builds versions from a checkpoint's path, or on weights that are loaded already."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from pydantic import JsonValue, ValidationError

from deltaserve.errors import BadCheckpoint, BadRequest
from deltaserve.offset_models.checkpoints.checkpoint import read_manifest
from deltaserve.offset_models.checkpoints.manifest import Manifest
from deltaserve.offset_models.files.safe_files import within
from deltaserve.offset_models.registry.state import PartSpec, VersionSpec
from deltaserve.offset_models.registry.version import Version
from deltaserve.offset_models.registry.weights import Weights, WeightsPool

_NO_SUM: Final = "The offsets of a sum must share one tokenizer."


class VersionBuilder:
    """`target`: what else changes the corrected distribution (tail policy, guards). `free` hears of freed versions."""

    def __init__(
        self, pool: WeightsPool, root: Path, target: Mapping[str, JsonValue], free: Callable[[Version], None]
    ) -> None:
        self._pool = pool
        self._root = root.resolve()
        self._target = dict(target)
        self._free = free

    async def manifest(self, path: str) -> Manifest:
        """Of the checkpoint at `path` under the root. Raises BadCheckpoint."""
        return await asyncio.to_thread(lambda: read_manifest(within(self._root, path)))

    async def spec_of(self, name: str, path: str, strength: float | None) -> VersionSpec:
        """A checkpoint as a version; its own strength unless another is given. Raises BadCheckpoint, BadRequest."""
        manifest = await self.manifest(path)
        relative = within(self._root, path).relative_to(self._root).as_posix()
        part = PartSpec(path=relative, content=manifest.content_digest)
        return self.spec(name, manifest.strength if strength is None else strength, (part,))

    def spec(self, name: str, strength: float, parts: tuple[PartSpec, ...]) -> VersionSpec:
        """Raises BadRequest naming the field at fault."""
        try:
            return VersionSpec(name=name, strength=strength, parts=parts, target=self._target)
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            raise BadRequest(f"{fault['loc'][0]}: {fault['msg']}.", param=str(fault["loc"][0])) from error

    def sum_spec(self, name: str, terms: Sequence[tuple[Version, float | None]]) -> VersionSpec:
        """Σ_j α_j·δ_j over the terms' parts, α_j in place of a term's own strength where given. Raises BadRequest."""
        parts = [part for term, alpha in terms for part in _scaled(term, alpha)]
        tokenizers = {weights.tokenizer.fingerprint.ids for term, _ in terms for weights in term.weights}
        if len(tokenizers) > 1:
            raise BadRequest(_NO_SUM, param="sum")
        if _differ([weights for term, _ in terms for weights in term.weights]):
            raise BadRequest(_NO_SUM, param="sum")
        return self.spec(name, 1.0, tuple(parts))

    async def build(self, spec: VersionSpec) -> Version:
        """Loads what is not loaded yet. Raises BadCheckpoint; then nothing stays behind."""
        weights: list[Weights] = []
        try:
            for part in spec.parts:
                weights.append(await self._pool.acquire(part.path, part.content))  # noqa: PERF401  (kept for release)
        except BaseException:
            self.release(weights)
            raise
        if _differ(weights):
            self.release(weights)
            raise BadCheckpoint(_NO_SUM)
        return Version(spec, weights, self._pool.engine, self._free)

    def on_loaded(self, spec: VersionSpec, terms: Sequence[Version]) -> Version:
        """A version on the weights of others."""
        weights = [self._pool.share(weights) for term in terms for weights in term.weights]
        return Version(spec, weights, self._pool.engine, self._free)

    def if_loaded(self, spec: VersionSpec) -> Version | None:
        """A version without loading anything; None where some of its weights are not in the engine."""
        weights = [each for part in spec.parts if (each := self._pool.loaded(part.content))]
        if len(weights) < len(spec.parts) or _differ(weights):
            return None  # `build` says what is wrong with such a sum
        return Version(spec, [self._pool.share(each) for each in weights], self._pool.engine, self._free)

    def restored(self, spec: VersionSpec) -> VersionSpec:
        """A saved version under today's tail policy and guards."""
        return spec.model_copy(update={"target": self._target})

    def release(self, weights: Sequence[Weights]) -> None:
        for each in weights:
            self._pool.release(each)


def _differ(weights: Sequence[Weights]) -> bool:
    """Whether their rows are of different tokens, or of ends of answers that are not the same."""
    return len({id(each.bridge) for each in weights}) > 1


def _scaled(term: Version, alpha: float | None) -> list[PartSpec]:
    strength = term.strength if alpha is None else alpha
    return [
        PartSpec.model_validate({**part.model_dump(), "weight": part.weight * strength}) for part in term.spec.parts
    ]
