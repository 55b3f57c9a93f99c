"""A server whose settings cannot be read: one sentence, an exit status, and no model is read."""

from deltaserve.client.console.terminal import Status
from tests.support.starts import NOWHERE, Case, Check, Place, each


def config_missing(place: Place) -> None:
    place.options["config"] = "nowhere.toml"


def config_broken(place: Place) -> None:
    (place.folder / "broken.toml").write_text("port = ")
    place.options["config"] = "broken.toml"


def config_of_unknown_keys(place: Place) -> None:
    (place.folder / "unknown.toml").write_text("prt = 8000")
    place.options["config"] = "unknown.toml"


def environment_of_another_type(place: Place) -> None:
    place.environment["DELTASERVE_MAX_STREAMS"] = "many"


def environment_of_unknown_names(place: Place) -> None:
    place.environment["DELTASERVE_UPSTREM_URL"] = NOWHERE


def a_number_that_is_none(place: Place) -> None:
    place.environment["DELTASERVE_UPSTREAM_PING_S"] = "nan"


WRONG: list[Case] = [
    (config_missing, Status.USAGE, "nowhere.toml cannot be read as TOML"),
    (config_broken, Status.USAGE, "broken.toml cannot be read as TOML"),
    (config_of_unknown_keys, Status.USAGE, "unknown key in unknown.toml prt: did you mean port?"),
    (environment_of_another_type, Status.USAGE, "max_streams: "),
    (environment_of_unknown_names, Status.USAGE, "did you mean DELTASERVE_UPSTREAM_URL?"),
    (a_number_that_is_none, Status.USAGE, "upstream_ping_s: "),
]


@each(WRONG)
def test_serve_ends_with_one_sentence_and_doctor_says_the_same(check: Check, case: Case) -> None:
    check(case)
