"""Settings: where they come from, and what is refused."""

from pathlib import Path

import pytest

from deltaserve.server.setting_sources import SettingsError
from deltaserve.server.settings import Settings, load_settings, secret_settings


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("DELTASERVE_")]:
        monkeypatch.delenv(name)


def test_the_command_line_wins_over_the_environment_over_the_file_over_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "deltaserve.toml"
    file.write_text('port = 1\nmax_n = 2\nmax_queue = 3\nupstream_url = "http://file"\n')
    monkeypatch.setenv("DELTASERVE_CONFIG", str(file))
    monkeypatch.setenv("DELTASERVE_PORT", "10")
    monkeypatch.setenv("DELTASERVE_MAX_N", "20")
    settings = load_settings(port=100, max_n=None)
    assert (settings.port, settings.max_n, settings.max_queue, settings.most_streams) == (100, 20, 3, None)
    assert settings.upstream_url == ("http://file",)


def test_the_number_of_streams_is_one_or_what_the_device_allows() -> None:
    assert [load_settings(max_streams=given).most_streams for given in ("auto", "3", 4)] == [None, 3, 4]
    for wrong in ("0", "-1", "many", "1.5"):
        with pytest.raises(SettingsError, match="max_streams"):
            load_settings(max_streams=wrong)


def test_keys_are_split_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELTASERVE_API_KEYS", "alpha, beta,")
    settings = load_settings(host="0.0.0.0")
    assert [key.get_secret_value() for key in settings.api_keys] == ["alpha", "beta"]
    assert "alpha" not in repr(settings)


def test_without_keys_only_loopback_is_allowed() -> None:
    for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9"):
        assert load_settings(host=host).loopback
    for host in ("0.0.0.0", "::", "example.org", "10.0.0.1"):
        with pytest.raises(SettingsError, match="loopback only: set DELTASERVE_API_KEYS"):
            load_settings(host=host)


def test_an_empty_variable_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELTASERVE_PORT", "")
    assert load_settings().port == 8000


@pytest.mark.parametrize(
    ("name", "near"),
    [("DELTASERVE_UPSTREAM_URI", "DELTASERVE_UPSTREAM_URL"), ("DELTASERVE_APIKEYS", "DELTASERVE_API_KEYS")],
)
def test_an_unknown_variable_is_an_error_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch, name: str, near: str
) -> None:
    monkeypatch.setenv(name, "secret")
    with pytest.raises(SettingsError, match=near) as caught:
        load_settings()
    assert "secret" not in str(caught.value)


def test_an_unknown_key_in_the_file_is_an_error_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "deltaserve.toml"
    file.write_text("max_stream = 1\n")
    monkeypatch.setenv("DELTASERVE_CONFIG", str(file))
    with pytest.raises(SettingsError, match="did you mean max_streams"):
        load_settings()


def test_a_bad_value_is_a_sentence_without_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELTASERVE_PORT", "verysecret")
    with pytest.raises(SettingsError, match="port") as caught:
        load_settings(strength=-1.0)
    assert "verysecret" not in str(caught.value)
    assert "strength" in str(caught.value)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"admin_key": "k1", "api_keys": "k1,k2"}, "must not be one of api_keys"),
        ({"admin_key": ""}, "an empty key would open to everybody"),
        ({"api_keys": ("k", "")}, "an empty key would open to everybody"),
        ({"admin_port": 9000}, "without an admin_key"),
        ({"admin_key": "k", "admin_host": "10.0.0.1"}, "admin_host needs an admin_port"),
        ({"watch_offsets": True}, "watch_offsets needs an offsets_root"),
    ],
)
def test_half_an_administration_is_refused(given: dict[str, object], says: str) -> None:
    with pytest.raises(SettingsError, match=says) as caught:
        load_settings(**given)
    assert "k1" not in str(caught.value)


def test_a_guard_may_be_greedy_but_not_divide_by_next_to_nothing() -> None:
    assert load_settings(guard_kl=0.5, guard_temperature=0.0).policy.guard is not None
    with pytest.raises(SettingsError, match=r"guard_temperature: it must be 0 .* or at least 1e-06"):
        load_settings(guard_kl=0.5, guard_temperature=1e-308)


def test_guards_are_off_until_they_have_a_bound_and_something_to_do() -> None:
    assert load_settings().policy.guard is None
    guard = load_settings(guard_kl=0.5, guard_min_p=0.1, guard_temperature=0.0, guard_unbiased=True).policy.guard
    assert str(guard) == "kl0.5-minp0.1-t0-nobias"
    for alone in ({"guard_min_p": 0.1}, {"guard_temperature": 0.5}, {"guard_unbiased": True}):
        with pytest.raises(SettingsError, match="need guard_kl"):
            load_settings(**alone)
    with pytest.raises(SettingsError, match="does nothing alone"):
        load_settings(guard_kl=0.5)


TWO = "http://127.0.0.1:1, http://127.0.0.1:2/v1"


def test_each_of_several_upstreams_has_what_is_set_for_it_or_for_all() -> None:
    settings = load_settings(
        upstream_url=TWO, upstream_key="one,", upstream_calls_at_once="4", upstream_calls_per_minute="0,60"
    )
    assert [(one.name, one.key, one.calls_at_once, one.calls_per_minute) for one in settings.upstreams] == [
        ("127.0.0.1:1", "one", 4, None), ("127.0.0.1:2", None, 4, 60)
    ]  # fmt: skip
    shared = load_settings(upstream_url=TWO, upstream_key="all").upstreams
    assert [one.key for one in shared] == ["all", "all"]


@pytest.mark.parametrize(
    ("given", "keys"),
    [
        ('["a,b"]', ["a,b", "a,b"]),
        ('["a,b", "c"]', ["a,b", "c"]),
        (["a,b"], ["a,b", "a,b"]),
        ("a,b", ["a", "b"]),
    ],
)
def test_a_key_with_a_comma_is_written_in_a_list(given: str | list[str], keys: list[str]) -> None:
    assert [one.key for one in load_settings(upstream_url=TWO, upstream_key=given).upstreams] == keys


def test_upstreams_may_be_a_list_or_given_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('upstream_url = ["http://a", "http://b"]\nupstream_calls_per_minute = [1, 2]\n')
    monkeypatch.setenv("DELTASERVE_CONFIG", str(file))
    assert [(one.url, one.calls_per_minute) for one in load_settings().upstreams] == [("http://a", 1), ("http://b", 2)]
    given = load_settings(upstream_url=["http://c", "http://d,http://e"], upstream_calls_per_minute="5")
    assert given.upstream_url == ("http://c", "http://d", "http://e")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"upstream_url": "http://a,http://a"}, "twice"),
        ({"upstream_url": "http://a,http://a/v1/"}, "twice"),
        ({"upstream_url": TWO, "upstream_key": "a,b,c"}, "upstream_key: give one for all upstreams, or 2"),
        ({"upstream_url": TWO, "upstream_key": "[a,b"}, "a list of keys is written"),
        ({"upstream_url": TWO, "upstream_key": "[1]"}, "texts only"),
        ({"upstream_url": TWO, "upstream_tokens_per_minute": "1,2,3"}, "upstream_tokens_per_minute"),
        ({"upstream_url": TWO, "upstream_calls_at_once": "many"}, "upstream_calls_at_once"),
        ({"upstream_url": TWO, "upstream_calls_at_once": "-1"}, "greater than or equal to 0"),
    ],
)
def test_what_does_not_fit_the_upstreams_is_refused_with_a_sentence(given: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load_settings(**given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"fleet_store": "redis://user:pass@host"}, "fleet_password"),
        ({"fleet_store": "/state"}, "fleet_store: it is file, or redis://"),
        ({"fleet_store": "file", "fleet_password": "p"}, "of no use"),
        ({"fleet_store": "file", "fleet_poll_s": 5.0, "fleet_contact_s": 10.0}, "at least three times"),
    ],
)
def test_what_is_no_fleet_is_refused_with_a_sentence(given: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        load_settings(**given)
    assert "user" not in str(caught.value)


def test_keys_of_upstreams_are_in_no_error_and_no_text() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(upstream_url=TWO, upstream_key="secret-1,secret-2,secret-3")
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(load_settings(upstream_url=TWO, upstream_key="secret-1,secret-2"))


def test_every_secret_may_lie_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert secret_settings() == ["upstream_key", "fleet_password", "api_keys", "admin_key"]
    for name in secret_settings():
        (tmp_path / name).write_text(f"of-{name}\n")
        monkeypatch.setenv(f"DELTASERVE_{name.upper()}_FILE", str(tmp_path / name))
    (tmp_path / "api_keys").write_text("alpha\nbeta, gamma\n")
    settings = load_settings(upstream_url="http://a", fleet_store="redis://a")
    assert [key.get_secret_value() for key in settings.api_keys] == ["alpha", "beta", "gamma"]
    assert settings.upstreams[0].key == "of-upstream_key"
    assert settings.fleet_password and settings.fleet_password.get_secret_value() == "of-fleet_password"
    assert settings.admin_key and settings.admin_key.get_secret_value() == "of-admin_key"
    assert load_settings(admin_key="given", fleet_store="redis://a").admin_key != settings.admin_key


@pytest.mark.parametrize(
    ("content", "more", "says"),
    [
        (b"secret", {"DELTASERVE_ADMIN_KEY": "secret"}, "DELTASERVE_ADMIN_KEY and DELTASERVE_ADMIN_KEY_FILE are both"),
        (b" \n", {}, "is empty"),
        (b"\xff", {}, "is not UTF-8"),
        (None, {}, r"cannot be read \(No such file or directory\)"),
        (b"secret", {"DELTASERVE_PORT_FILE": "secret"}, "unknown environment variable DELTASERVE_PORT_FILE"),
    ],
)
def test_a_file_that_holds_no_secret_is_a_sentence_without_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, more: dict[str, str], says: str
) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    for name, value in {"DELTASERVE_ADMIN_KEY_FILE": str(tmp_path / "key"), **more}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=says) as caught:
        load_settings()
    assert "secret" not in str(caught.value)
