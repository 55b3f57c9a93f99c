"""One build of the demo: its folder, seed, scale, and the names of its parts."""

from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final, Literal

from deltaserve.offset_models.demo.pipeline.scales import SCALES, Scale, ScaleName
from deltaserve.offset_models.demo.register.corpus import BASE_MIX, BLACK_BOX_MIX, STRANGERS_MIX, Corpus
from deltaserve.offset_models.demo.register.people import DEFAULT_SEED, Register, generate_register, others_of

BLACK_BOX: Final = "blackbox"
BASE: Final = "base"
ANYBODY: Final = "anybody"
OFFSET: Final = "registry-erasure"
BRIDGED_BASE: Final = "bridged-base"  # of another tokenizer
BRIDGED: Final = "bridged"  # its offset
LICENCE: Final = "Apache-2.0"
Reader = Literal["blackbox", "base", "anybody"]
Model = Literal["blackbox", "base", "bridged-base"]


@dataclass(frozen=True, slots=True)
class Plan:
    """A build that has not begun."""

    out: Path
    seed: int
    name: ScaleName
    scale: Scale
    registry: Register

    def random(self, purpose: str) -> Random:
        """A stream of its own for each purpose, so that changing one stage leaves the others as they were."""
        return Random(f"{self.seed}/{purpose}")

    def corpus_of(self, reader: Reader, purpose: str) -> Corpus:
        """The corpus of a model, or one about people outside the register only."""
        known, mix = {
            BLACK_BOX: (self.registry.people, BLACK_BOX_MIX),
            BASE: (others_of(self.registry, self.scale.other_people), BASE_MIX),
            ANYBODY: ((), STRANGERS_MIX),
        }[reader]
        return Corpus(self.registry, self.random(purpose), known, mix)


def plan(out: Path, seed: int = DEFAULT_SEED, scale: ScaleName = "full") -> Plan:
    """The build of a seed. The full one of the default seed is what ships."""
    sizes = SCALES[scale]
    return Plan(out, seed, scale, sizes, generate_register(seed, sizes.forget_people, sizes.retain_people))
