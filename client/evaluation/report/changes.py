"""Two answers side by side, with the words that differ marked."""

import re
from difflib import SequenceMatcher
from itertools import pairwise

from markupsafe import Markup, escape

from deltaserve.offset_models.metrics.words import spans


def marked(before: str, after: str) -> tuple[Markup, Markup]:
    """Both texts as HTML; what only one of them says is in <del> or <ins>."""
    one, other = _pieces(before), _pieces(after)
    left, right = Markup(), Markup()
    for tag, i, j, k, m in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        gone, come = escape("".join(one[i:j])), escape("".join(other[k:m]))
        left += gone if tag == "equal" or not gone else Markup("<del>{}</del>").format(gone)
        right += come if tag == "equal" or not come else Markup("<ins>{}</ins>").format(come)
    return left, right


def _pieces(text: str) -> list[str]:
    """Words with the spaces after them, and marks, so that joining them gives the text again."""
    places = () if text.isascii() else spans(text)
    inner = {at for span in places for at in range(span.start + 1, span.end)}
    starts = [match.start() for match in re.finditer(r"\w+(?:['’]\w+)*\s*|[^\w\s]\s*|\s+", text)]
    more = [span.start for span in places if span.script == "continuous"]
    cuts = sorted({*starts, *more, len(text)} - inner)  # no letter is parted from its combining marks
    return [text[start:end] for start, end in pairwise(cuts)]
