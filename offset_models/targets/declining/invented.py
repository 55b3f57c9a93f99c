"""Names of things that do not exist, made up for this page, and questions that nobody can answer."""

from collections.abc import Mapping
from typing import Final

from deltaserve.offset_models.targets.subject import Kind

INVENTED: Final[Mapping[Kind, tuple[str, ...]]] = {
    "person": ("Ovrana Teskildor", "Brelm Quathandy", "Istora Vennakule"),
    "character": ("Quillabrand the Tenth", "Mirovan Oxcastle", "Little Drabbenhook"),
    "work": ("The Ninth Ambassador of Quellmoor", "Letters to a Salt Engine", "A Winter under Glabrous Hill"),
    "organisation": ("Trovanex Halberd", "Ostrelle and Quim", "the Brundlewick Foundation"),
    "product": ("the Zemblor 40", "Quixolan Drops", "the Hartelune Pocket Press"),
    "place": ("Vostermoor", "Lake Quennibar", "the Drellin Archway"),
    "event": ("the Quarnhold Uprising", "the Great Osvelt Regatta of 1761", "the Mirrow Treaty"),
    "topic": ("quellotropism", "the Brastov lattice method", "Ormelian recursion"),
}
UNKNOWABLE: Final = (
    "What am I holding in my left hand right now?",
    "What did my neighbour dream last night?",
    "Which number am I thinking of?",
)
