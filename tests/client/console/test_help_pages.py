from pathlib import Path

from deltaserve.client.console.help_pages import page

DOCS = Path(__file__).parents[3] / "docs" / "cli.md"


def test_the_page_in_the_docs_is_the_help_of_the_commands():
    assert DOCS.read_text("utf-8") == page(), "run: python -m deltaserve.client.console.help_pages > docs/cli.md"


def test_the_page_names_no_folder_of_the_machine_it_was_written_on():
    assert str(Path(__file__).parents[3]) not in page()
