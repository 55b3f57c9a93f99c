import re
from pathlib import Path

from deltaserve.client.console.help_pages import commands, page

DOCS = Path(__file__).parents[3] / "docs" / "cli.md"


def test_the_page_in_the_docs_is_the_help_of_the_commands():
    assert DOCS.read_text("utf-8") == page(), "run: python -m deltaserve.client.console.help_pages > docs/cli.md"


def test_the_page_names_no_folder_of_the_machine_it_was_written_on():
    assert str(Path(__file__).parents[3]) not in page()


def test_every_option_is_named_with_its_command_or_with_the_one_that_it_refers_to():
    sections = _sections()
    for path, command in commands():
        owners = re.findall(r"all options of \[`(.+?)`\]", sections[path])
        text = "\n".join(sections[name] for name in [path, *owners])
        for names in (param.opts for param in command.params if not param.hidden):
            pattern = rf"(?<![\w-])({'|'.join(map(re.escape, names))})(?![\w-])"
            assert re.search(pattern, text), f"{path} does not name {names}"


def test_the_options_of_serve_are_explained_once():
    explanations = [path for path, text in _sections().items() if "--upstream-dialect <" in text]
    assert explanations == ["deltaserve serve"]
    assert "Also all options of [`deltaserve serve`](#deltaserve-serve)." in _sections()["deltaserve doctor"]


def _sections() -> dict[str, str]:
    """The words that call a command -> its part of the page."""
    parts = re.split(r"^## (.+)$", page(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))
