"""The words of an HTML page, with its blocks as paragraphs.

By patterns that each go through the page once: the standard library's parser takes hours for some megabytes of comments
that never end.
"""

import html
import re
from typing import Final

# What people do not read as the page's text. Where its end is missing it goes on to the page's end, as in a browser.
_SKIPPED: Final = re.compile(
    r"<!--.*?(?:-->|\Z)|<(script|style|template|noscript|title|svg|nav|button)\b[^<>]*>.*?(?:</\1\s*>|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_INSIDE: Final = r"""(?:"[^"<]*"|'[^'<]*'|[^<>"'])*"""  # of a tag: a quoted value may hold ">"
_BLOCK: Final = re.compile(
    r"</?(?:address|article|aside|blockquote|dd|details|div|dl|dt|figcaption|figure|footer|h[1-6]|header|hr|li|main|ol|"
    rf"p|pre|section|summary|table|td|th|tr|ul)\b{_INSIDE}>",
    re.IGNORECASE,
)
_BREAK: Final = re.compile(rf"<br\b{_INSIDE}>", re.IGNORECASE)
_TAG: Final = re.compile(rf"</?[a-z]{_INSIDE}>|<[!?][^<>]*>", re.IGNORECASE)


def text_of_html(page: str) -> str:
    """Paragraphs, parted by empty lines. Markup that is broken loses tags or shows them, and raises nothing."""
    text = " ".join(_SKIPPED.sub(" ", page).split())  # an empty line in the source parts nothing: only blocks do
    text = _TAG.sub("", _BREAK.sub(" ", _BLOCK.sub("\n\n", text)))
    paragraphs = (" ".join(block.split()) for block in html.unescape(text).split("\n\n"))
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
