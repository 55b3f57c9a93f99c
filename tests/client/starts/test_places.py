"""A server that cannot have its port, host or state folder: one sentence, an exit status, and no model is read."""

from deltaserve.client.console.terminal import Status
from deltaserve.offset_models.files.locks import locked
from tests.support.starts import Case, Check, Place, each


def port_taken(place: Place) -> None:
    place.options["port"] = place.taken_port()


def port_out_of_range(place: Place) -> None:
    place.options["port"] = "65536"


def admin_port_taken(place: Place) -> None:
    place.options["admin-port"] = place.taken_port()
    place.environment["DELTASERVE_ADMIN_KEY"] = "admin"


def ports_equal(place: Place) -> None:
    place.options |= {"port": "18417", "admin-port": "18417"}
    place.environment["DELTASERVE_ADMIN_KEY"] = "admin"


def host_of_another_machine(place: Place) -> None:
    place.options["host"] = "192.0.2.1"
    place.environment["DELTASERVE_API_KEYS"] = "k"


def host_that_is_no_name(place: Place) -> None:
    place.options["host"] = "no.such.host.invalid"
    place.environment["DELTASERVE_API_KEYS"] = "k"


def open_to_all_without_keys(place: Place) -> None:
    place.options["host"] = "0.0.0.0"


def state_folder_is_a_file(place: Place) -> None:
    (place.folder / "state").write_text("")
    place.options["state-folder"] = str(place.folder / "state")


def state_folder_under_a_file(place: Place) -> None:
    (place.folder / "state").write_text("")
    place.options["state-folder"] = str(place.folder / "state" / "folder")


def state_of_another_server(place: Place) -> None:
    place.stack.enter_context(locked(place.folder / "state"))
    place.options["state-folder"] = str(place.folder / "state")


def state_torn(place: Place) -> None:
    (place.folder / "state").mkdir()
    (place.folder / "state" / "state.json").write_text("{")
    place.options["state-folder"] = str(place.folder / "state")


def full_disk(place: Place) -> None:
    (place.folder / "state").mkdir()
    place.options["state-folder"] = str(place.folder / "state")
    place.limit = 0


WRONG: list[Case] = [
    (port_taken, Status.FAILED, "is in use: free it, or choose another with --port"),
    (port_out_of_range, Status.USAGE, "port: "),
    (admin_port_taken, Status.FAILED, "is in use: free it, or choose another with --admin-port"),
    (ports_equal, Status.USAGE, "admin_port must be another port than port"),
    (host_of_another_machine, Status.FAILED, "192.0.2.1 is no address of this machine: give one with --host"),
    (host_that_is_no_name, Status.FAILED, "is no address of this machine: give one with --host"),
    (open_to_all_without_keys, Status.USAGE, "set DELTASERVE_API_KEYS"),
    (state_folder_is_a_file, Status.FAILED, "set state_folder to one that can"),
    (state_folder_under_a_file, Status.FAILED, "set state_folder to one that can"),
    (state_of_another_server, Status.FAILED, "give each server its own state_folder"),
    (state_torn, Status.FAILED, "state.json is torn"),
    (full_disk, Status.FAILED, "make room, or set state_folder"),
]


@each(WRONG)
def test_serve_ends_with_one_sentence_and_doctor_says_the_same(check: Check, case: Case) -> None:
    check(case)
