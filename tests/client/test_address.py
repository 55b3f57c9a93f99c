from pathlib import Path

import pytest

from deltaserve.client.address import Address, resolve, root_of
from deltaserve.client.errors import BadAddress, BadText

ENVIRONMENT = {"DELTASERVE_URL": "http://one:8000/v1", "DELTASERVE_API_KEY": "k"}


@pytest.mark.parametrize("url", ["http://one:8000", "http://one:8000/", "http://one:8000/v1", "http://one:8000/v1/"])
def test_an_address_may_be_written_with_and_without_v1(url: str):
    assert root_of(url) == "http://one:8000"


def test_a_path_before_v1_is_kept():
    assert root_of("https://one/models/a/v1") == "https://one/models/a"


@pytest.mark.parametrize("url", ["one:8000", "ftp://one", "http://", "http://user:pw@one", ""])
def test_what_is_no_address_is_refused(url: str):
    with pytest.raises(BadAddress):
        root_of(url)


def test_a_configured_key_goes_to_the_configured_server():
    assert resolve(None, None, ENVIRONMENT) == Address("http://one:8000", "k")
    assert resolve("http://one:8000", None, ENVIRONMENT).key == "k"


@pytest.mark.parametrize("url", ["http://two:8000", "http://one:8001", "https://one:8000", "http://one.evil:8000"])
def test_a_configured_key_goes_to_no_other_server(url: str):
    assert resolve(url, None, ENVIRONMENT).key is None


def test_a_key_without_a_configured_server_goes_to_this_machine_only():
    environment = {"DELTASERVE_API_KEY": "k"}
    assert resolve(None, None, environment) == Address("http://127.0.0.1:8000", "k")
    assert resolve("http://two:8000", None, environment).key is None


def test_a_configured_key_may_lie_in_a_file(tmp_path: Path):
    (tmp_path / "key").write_text("of-file\n")
    environment = {"DELTASERVE_API_KEY_FILE": str(tmp_path / "key")}
    assert resolve(None, None, environment) == Address("http://127.0.0.1:8000", "of-file")
    assert resolve("http://two:8000", None, environment).key is None
    with pytest.raises(BadText, match="both set"):
        resolve(None, None, {**environment, "DELTASERVE_API_KEY": "k"})


def test_a_key_on_the_command_line_goes_where_the_command_goes():
    assert resolve("http://two", "other", ENVIRONMENT) == Address("http://two", "other")


def test_an_address_is_shown_without_its_key():
    assert "k" not in repr(Address("http://one", "k"))


def test_a_server_on_this_machine_is_known_as_such():
    roots = ("http://127.0.0.1:1", "http://[::1]:1", "http://localhost", "http://one", "http://10.0.0.1")
    assert [Address(root).loopback for root in roots] == [True, True, True, False, False]
