"""A server whose offset cannot be served: one sentence, an exit status, and no model is read."""

import json

from deltaserve.client.console.terminal import Status
from deltaserve.offset_models.checkpoints.manifest import MANIFEST_FILE
from tests.support.starts import Case, Check, Place, each


def no_offset(place: Place) -> None:
    del place.options["offset"]


def nothing_at_all(place: Place) -> None:
    del place.options["offset"], place.options["offsets-root"]


def root_missing(place: Place) -> None:
    place.options["offsets-root"] = str(place.folder / "nowhere")


def root_is_a_file(place: Place) -> None:
    (place.folder / "file").write_text("")
    place.options["offsets-root"] = str(place.folder / "file")


def offset_missing(place: Place) -> None:
    place.options["offset"] = "other"


def offset_missing_without_a_root(place: Place) -> None:
    del place.options["offsets-root"]
    place.options["offset"] = "other"


def offset_is_no_checkpoint(place: Place) -> None:
    place.options["offset"] = "base"


def manifest_broken(place: Place) -> None:
    (place.own_offset() / MANIFEST_FILE).write_text('{"format_version": ')


def manifest_newer(place: Place) -> None:
    place.manifest(format_version="2.0")


def base_not_said(place: Place) -> None:
    path = place.own_offset() / MANIFEST_FILE
    manifest = json.loads(path.read_text())
    del manifest["base"]["path"]
    path.write_text(json.dumps(manifest))


def base_missing(place: Place) -> None:
    base_not_said(place)
    place.options["base"] = str(place.folder / "nowhere")


def base_not_beside(place: Place) -> None:
    place.own_offset()


def weights_truncated(place: Place) -> None:
    file = place.own_offset() / "adapter" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])


WRONG: list[Case] = [
    (no_offset, Status.USAGE, "There is no offset to serve: give --offset"),
    (nothing_at_all, Status.USAGE, "No offset is configured: give --offset"),
    (root_missing, Status.REFUSED, "does not exist: set --offsets-root"),
    (root_is_a_file, Status.REFUSED, "is no folder: set --offsets-root"),
    (offset_missing, Status.REFUSED, "other does not exist under the offsets root"),
    (offset_missing_without_a_root, Status.REFUSED, "does not exist: give --offset"),
    (offset_is_no_checkpoint, Status.REFUSED, "`deltaserve offsets pack` makes one"),
    (manifest_broken, Status.REFUSED, "offset.json is not JSON"),
    (manifest_newer, Status.REFUSED, "is of format 2.x; this program reads 1.x"),
    (base_not_said, Status.REFUSED, "give that model's folder with --base"),
    (base_missing, Status.REFUSED, "with --base"),
    (base_not_beside, Status.REFUSED, "holds no model"),
    (weights_truncated, Status.REFUSED, "it may be truncated"),
]


@each(WRONG)
def test_serve_ends_with_one_sentence_and_doctor_says_the_same(check: Check, case: Case) -> None:
    check(case)
