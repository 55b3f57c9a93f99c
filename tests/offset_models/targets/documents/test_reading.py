"""Documents are read as plain text within bounds, or refused by name with what to do."""

from pathlib import Path

import pytest

from deltaserve.errors import BadRequest
from deltaserve.offset_models.targets.documents import reading
from deltaserve.offset_models.targets.documents.markup import text_of_html
from deltaserve.offset_models.targets.documents.reading import read_documents


def written(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_each_kind_of_file_gives_its_words(tmp_path: Path) -> None:
    files = [
        written(tmp_path, "a.txt", "\ufeffOne\r\n\r\nTwo"),
        written(tmp_path, "b.md", "# Head\n\nA *fine* [town](http://x).\n\n- one\n- two"),
        written(tmp_path, "c.HTML", "<title>T</title><p>Big &amp; <b>old</b><br>town<ul><li>one<li>two</ul>"),
        written(tmp_path, "d.jsonl", '{"text": "First."}\n\n{"text": "Second.", "id": 2}\n'),
    ]
    assert read_documents(files) == [
        "One\n\nTwo", "Head\n\nA fine town.\n\none\n\ntwo", "Big & old town\n\none\n\ntwo", "First.", "Second."
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.pdf", b"x", "give one of .txt, .md"),
        ("a.txt", b"\xff\xfe secret", "is not UTF-8"),
        ("a.txt", b"a\0secret", "NUL"),
        ("a.txt", b" \n ", "holds no text"),
        ("a.html", b"<script>secret</script>", "holds no text"),
        ("a.jsonl", b'{"text": "x"}\nsecret', "line 2 is not JSON"),
        ("a.jsonl", b'{"words": "secret"}', "line 1 is no object with a text"),
        ("a.jsonl", b'["secret"]', "line 1 is no object with a text"),
    ],
)
def test_what_cannot_be_read_is_refused_without_a_word_of_it(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    with pytest.raises(BadRequest, match=says) as refused:
        read_documents([written(tmp_path, name, content)])
    assert "secret" not in refused.value.message and name in refused.value.message


def test_missing_files_folders_and_too_large_ones_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(BadRequest, match="cannot be read"):
        read_documents([tmp_path / "none.txt"])
    with pytest.raises(BadRequest, match="is no plain file"):
        read_documents([tmp_path / "folder.txt"])
    monkeypatch.setattr(reading, "MAX_FILE_BYTES", 10)
    with pytest.raises(BadRequest, match="larger than"):
        read_documents([written(tmp_path, "large.txt", "x" * 11)])
    monkeypatch.setattr(reading, "MAX_BYTES", 15)
    with pytest.raises(BadRequest, match="MiB together"):
        read_documents([written(tmp_path, "a.txt", "x" * 9), written(tmp_path, "b.txt", "x" * 9)])


def test_broken_markup_loses_tags_and_never_raises() -> None:
    assert text_of_html("<p>One <b>two</p><td>three</i><!-- no --><p>4 < 5 </p></nav>") == "One two\n\nthree\n\n4 < 5"


def test_a_tag_may_hold_the_mark_that_ends_tags() -> None:
    assert text_of_html("<p title=\"a > b\">One</p><hr class='>'/><!doctype html>two &lt;b&gt;") == "One\n\ntwo <b>"
