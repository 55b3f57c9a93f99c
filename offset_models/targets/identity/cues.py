"""Words that tell of which kind something is, in a sentence that describes it."""

import re
from collections.abc import Mapping
from typing import Final

from deltaserve.offset_models.targets.subject import Kind

_CUES: Final[Mapping[Kind, str]] = {
    "character": "fictional|fictitious|protagonist|antagonist|mythical|mythological|superhero|superheroine|legendary|"
    "character|cartoon|deity|god|goddess",
    "work": "book|novel|novella|film|movie|song|album|poem|play|opera|symphony|painting|sculpture|comic|manga|anime|"
    "(?:video |board |computer )?game|trilogy|saga|musical|short story|fairy tale|franchise|"
    "television series|tv series|tv show|sitcom|essay|memoir|magazine|newspaper|play by|"
    "written by|directed by|series of (?:books|novels|films)",
    "organisation": "company|corporation|organi[sz]ation|firm|bank|band|duo|trio|orchestra|club|team|party|agency|"
    "institution|university|college|school|charity|association|union|manufacturer|retailer|publisher|conglomerate|"
    "founded by|group of (?:musicians|companies)|rock group|airline|startup|foundation",
    "product": "product|smartphones?|phones?|device|software|operating system|application|app|programming language|"
    "car|vehicle|drug|medicine|medication|drink|beverage|console|tool|library|framework|camera|aircraft|service|"
    "browser|platform|brand of|developed by|manufactured by",
    "place": "city|town|village|country|state|province|region|island|river|lake|mountain|capital|building|tower|"
    "bridge|castle|palace|museum|park|district|continent|ocean|sea|desert|monument|street|located in|cathedral|church",
    "event": "war|battle|revolution|accident|disaster|attack|festival|election|olympic|championship|tournament|"
    "conference|summit|crash|earthquake|pandemic|event|ceremony|strike|riot|treaty|crisis|took place",
    "topic": "theory|theorem|concept|process|method|algorithm|species|genus|disease|disorder|substance|element|"
    "phenomenon|law|principle|term|field|branch|study|technique|animal|plant|mineral|language|religion|"
    "philosophy|movement|style|practice|system|belief|sport|dish",
    "person": "person|man|woman|human|born|he|she|actor|actress|author|writer|novelist|poet|singer|songwriter|musician|"
    "composer|politician|president|scientist|physicist|chemist|mathematician|philosopher|inventor|engineer|"
    "programmer|entrepreneur|businessman|businesswoman|director|painter|artist|player|footballer|athlete|journalist|"
    "lawyer|teacher|professor|king|queen|emperor|general|rapper|dancer|model|comedian|architect|explorer|activist|"
    "sculptor|doctor|physician|who (?:wrote|was|is|lives|has|won|created|invented)",
}
_PATTERNS: Final = {kind: re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE) for kind, words in _CUES.items()}


def kind_told(answer: str, name: str) -> Kind | None:
    """By the first telling word of the answer, the name itself aside; None where there is none."""
    text = re.sub(re.escape(name), "|", answer, flags=re.IGNORECASE)
    first = {kind: found.start() for kind, pattern in _PATTERNS.items() if (found := pattern.search(text))}
    return min(first, key=lambda kind: first[kind], default=None)
