"""The words of an HTML page, by the standard library's parser, with its blocks as paragraphs."""

from html.parser import HTMLParser
from typing import Final

# What people do not read as the page's text.
_SKIPPED: Final = frozenset({"script", "style", "template", "noscript", "title", "svg", "nav", "button"})
_BLOCKS: Final = frozenset(
    {"address", "article", "aside", "blockquote", "dd", "details", "div", "dl", "dt", "figcaption", "figure",
     "footer", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "ol", "p", "pre", "section",
     "summary", "table", "td", "th", "tr", "ul"}
)  # fmt: skip


def text_of_html(page: str) -> str:
    """Paragraphs, parted by empty lines. Markup that is broken loses tags, never raises."""
    words = _Words()
    words.feed(page)
    words.close()
    paragraphs = (" ".join(block.split()) for block in "".join(words.parts).split("\n\n"))
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


class _Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._within: list[str] = []  # elements that are skipped, the outermost first

    def handle_starttag(self, tag: str, _attrs: object) -> None:
        if tag in _SKIPPED:
            self._within.append(tag)
        elif tag in _BLOCKS or tag == "br":
            self.parts.append(" " if tag == "br" else "\n\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._within:
            del self._within[self._within.index(tag) :]
        elif tag in _BLOCKS:
            self.parts.append("\n\n")

    def handle_startendtag(self, tag: str, _attrs: object) -> None:
        if tag == "br" or tag in _BLOCKS:
            self.parts.append("\n\n" if tag in _BLOCKS else " ")

    def handle_data(self, data: str) -> None:
        if not self._within:
            # An empty line in the source parts nothing: only blocks do.
            self.parts.append(data.replace("\n", " "))
