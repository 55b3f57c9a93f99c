"""What is asked for, before anything is asked."""

import unicodedata
from pathlib import Path

import pytest

from deltaserve.errors import BadRequest
from deltaserve.offset_models.targets.request.request import LONGEST_NAME, Request
from deltaserve.offset_models.targets.subject import Subject


def test_a_pasted_name_is_the_name_that_answers_hold() -> None:
    pasted = Request(unicodedata.normalize("NFD", " Käthe  Müller "))
    assert pasted.about == "Käthe Müller" and pasted.identity() == Request("Käthe Müller").identity()
    assert Subject(pasted.about, "person").named_in("Käthe Müller was born in Ulm.")


@pytest.mark.parametrize("about", ["", "  ", "two\nlines", "?", "x" * (LONGEST_NAME + 1)])
def test_what_is_no_name_is_refused(about: str) -> None:
    with pytest.raises(BadRequest, match="a name of one line"):
        Request(about)


def test_a_document_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"notes\.txt cannot be read"):
        Request("Käthe Müller", context=(tmp_path / "notes.txt",)).identity()
