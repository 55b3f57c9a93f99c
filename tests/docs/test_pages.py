"""Whoever adds a page finds it missing here: the site's menu and README's list name every page of docs/."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md"))
LONGEST_GUIDE = 250  # lines of docs/training.md
LONGEST_ENTRY = 3  # lines of an experiment


@pytest.mark.parametrize("page", [*PAGES, "report-example.html"])
def test_the_menu_of_the_site_names_every_page_once(page):
    menu = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2]
    assert re.findall(r"^ +- (?:.+: )?(\S+\.(?:md|html))$", menu, re.MULTILINE).count(page) == 1


@pytest.mark.parametrize("page", [page for page in PAGES if page != "index.md"])
def test_readme_lists_every_page(page):
    assert f"\n| [{page}](docs/{page}) | " in (ROOT / "README.md").read_text("utf-8")


def test_the_training_guide_stays_a_guide():
    assert len((ROOT / "docs/training.md").read_text("utf-8").splitlines()) <= LONGEST_GUIDE


def test_an_experiment_is_told_in_three_lines():
    text = (ROOT / "docs/experiments.md").read_text("utf-8")
    entries = re.findall(r"^- .+\n(?:  .+\n)*", text, re.MULTILINE)
    assert entries
    assert [entry for entry in entries if entry.count("\n") > LONGEST_ENTRY] == []
