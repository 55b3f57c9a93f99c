"""What can be known of a start before a model is read: each fault as its sentence, in a moment. Never imports torch."""

import asyncio
import errno
import os
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from deltaserve.errors import (
    BadCheckpoint,
    CorruptState,
    DeltaserveError,
    MalformedTopK,
    NotConfigured,
    ReplicaFenced,
    StateFolderUnusable,
    Unavailable,
    UncorrectableUpstream,
    UpstreamRefused,
    UpstreamTimeout,
)
from deltaserve.server.fleet.stores.opening import FOLDER, open_store
from deltaserve.server.serving.admission.keys_file import keys_of
from deltaserve.server.settings import Settings
from deltaserve.server.upstream.http.transport import Limits, Timeouts, Transport
from deltaserve.server.upstream.probing.detect import detect
from deltaserve.server.upstream_settings import UpstreamSettings

if TYPE_CHECKING:
    from deltaserve.offset_models.checkpoints.manifest import Manifest
    from deltaserve.offset_models.registry.state import RegistryState
    from deltaserve.server.fleet.stores.ports import Store

STATE_FOLDER: Final = ".deltaserve"  # under the offsets root, where the settings name no other
ASKED_WITHIN_S: Final = 1.5  # what a black box says of itself; one that is slower is probed when the models are read
_PROBE_BYTES: Final = 1 << 14  # about as much as a first state and its first audit lines take

Check = Callable[[Settings], Awaitable[None]]


async def check(settings: Settings) -> None:
    """Raises the first fault. A black box that is away is none: a server waits for it."""
    for one in CHECKS:
        try:
            await one(settings)
        except DeltaserveError as error:
            if not error.retryable:
                raise


async def faults(settings: Settings, checks: Sequence[Check] | None = None) -> list[DeltaserveError]:
    """One for each check that does not hold, in their order."""
    found = []
    for one in CHECKS if checks is None else checks:
        try:
            await one(settings)
        except DeltaserveError as error:
            found.append(error)
    return found


async def check_offset(settings: Settings) -> None:
    """The offset's folder, its manifest, the sizes of its files and where its base is. Raises DeltaserveError."""
    if settings.fleet_store is not None:
        _check_root(place(settings)[0])  # what answers is in the fleet's record
        return
    saved = _saved(settings)
    if saved is not None and saved.active is not None:
        return  # what was active answers again, whatever the settings name
    if settings.offset is None:
        _refuse_nothing_to_activate(settings)
        return
    root, path = place(settings)
    _check_checkpoint(settings, root, path or "")


async def check_state(settings: Settings) -> None:
    """The state folder can be written and is nobody else's. Raises StateFolderUnusable, CorruptState."""
    from deltaserve.offset_models.files.locks import locked
    from deltaserve.offset_models.registry.journal import Journal

    if settings.fleet_store is not None:
        _check_fleet(settings)
    elif (folder := state_folder(settings)) is not None:
        with locked(folder):
            _refuse_full(folder)
            Journal(folder).saved()


def _check_fleet(settings: Settings) -> None:
    """The shared folder as one of many, or Redis' client. Raises as `check_state`, and NotConfigured."""
    from deltaserve.offset_models.files.locks import locked

    folder = state_folder(settings)
    if settings.fleet_store == FOLDER and folder is not None:
        with locked(folder, shared=True):
            _refuse_full(folder)
            opened_store(settings).read()
    else:
        opened_store(settings)


def opened_store(settings: Settings) -> "Store":
    """What `fleet_store` names. Raises NotConfigured, StoreUnreachable."""
    password = settings.fleet_password
    return open_store(
        settings.fleet_store or FOLDER,
        state_folder(settings),
        settings.fleet_name,
        password.get_secret_value() if password else None,
    )


async def check_state_unchanged(settings: Settings) -> None:
    """Checks the state folder without making it or a file in it."""
    if settings.fleet_store not in (None, FOLDER):
        opened_store(settings)
        return
    folder = state_folder(settings)
    if folder is None:
        return
    there = next(path for path in (folder, *folder.parents) if path.exists())
    wrong = _unwritable(there, errno.EEXIST if there == folder else errno.ENOTDIR)
    if wrong is not None:
        raise StateFolderUnusable(
            f"The state folder {folder} cannot be written ({os.strerror(wrong)}); set state_folder to one that can."
        )
    if folder.is_dir():
        await check_state(settings)


async def check_keys(settings: Settings) -> None:
    """The file of keys. Raises NotConfigured."""
    keys_of(settings)


async def check_upstream(settings: Settings) -> None:
    """Checks each black box's address, key and model by what it says of itself. A retryable error: all are away."""
    if not settings.upstream_url:
        raise NotConfigured(
            "No black box is configured: give --upstream-url (DELTASERVE_UPSTREAM_URL), for example "
            "http://127.0.0.1:8001."
        )
    checks = (_check_one(settings, upstream) for upstream in settings.upstreams)
    heard = await asyncio.gather(*checks, return_exceptions=True)
    faults = [error for error in heard if isinstance(error, BaseException)]
    lasting = [error for error in faults if not (isinstance(error, DeltaserveError) and error.retryable)]
    if lasting or len(faults) == len(heard):
        raise [*lasting, *faults][0]


async def _check_one(settings: Settings, upstream: UpstreamSettings) -> None:
    transport = Transport(
        upstream.url,
        key=upstream.key,
        timeouts=Timeouts(connect_s=ASKED_WITHIN_S, first_token_s=ASKED_WITHIN_S, total_s=ASKED_WITHIN_S),
        limits=Limits(attempts=1),
    )
    try:
        async with asyncio.timeout(ASKED_WITHIN_S):
            await detect(
                transport,
                settings.upstream_model,
                None if settings.upstream_dialect == "auto" else settings.upstream_dialect,
            )
    except TimeoutError:
        raise UpstreamTimeout("The upstream did not answer in time.") from None
    except (MalformedTopK, UpstreamRefused) as error:
        raise UncorrectableUpstream(error.message) from error
    finally:
        await transport.aclose()


CHECKS: Final[tuple[Check, ...]] = (check_keys, check_state, check_offset, check_upstream)


def addresses(settings: Settings) -> list[tuple[str, int, str, str]]:
    """What is listened on, as `addresses.bound` takes it."""
    public = (settings.host, settings.port, "server", "--port")
    if settings.admin_port is None:
        return [public]
    return [public, (settings.admin_host or settings.host, settings.admin_port, "admin routes", "--admin-port")]


def advised(error: DeltaserveError, settings: Settings) -> str:
    """The sentence; where something is waited for, with what to do."""
    if isinstance(error, Unavailable) and not isinstance(error, ReplicaFenced):
        return f"{error.message} Load one: deltaserve offsets load NAME PATH --activate."
    if error.retryable and (error.code or "").startswith("upstream"):
        return f"{error.message} Start the black box, or correct --upstream-url ({', '.join(settings.upstream_url)})."
    return error.message


def state_folder(settings: Settings) -> Path | None:
    """Where the registry keeps its state; None where the offsets cannot change and so have none."""
    if settings.state_folder is not None:
        return settings.state_folder
    kept = settings.admin_key or settings.watch_offsets or settings.fleet_store
    return place(settings)[0] / STATE_FOLDER if kept and (settings.offsets_root or settings.offset) else None


def place(settings: Settings) -> tuple[Path, str | None]:
    """(root of all checkpoints, path of the first one under it). Raises NotConfigured."""
    if settings.offsets_root is not None:
        return settings.offsets_root, settings.offset
    if settings.offset is None:
        raise NotConfigured(
            "No offset is configured: give --offset (DELTASERVE_OFFSET), a checkpoint folder, or --offsets-root."
        )
    folder = Path(settings.offset).resolve()
    return folder.parent, folder.name


def _saved(settings: Settings) -> "RegistryState | None":
    """The last run's state; None where there is none or it cannot be read, which `check_state` tells."""
    from deltaserve.offset_models.registry.journal import Journal

    folder = state_folder(settings)
    if folder is None or not folder.is_dir():
        return None
    try:
        return Journal(folder).saved()
    except CorruptState:
        return None


def _refuse_nothing_to_activate(settings: Settings) -> None:
    """With an admin key an offset can be loaded later. Raises NotConfigured, BadCheckpoint."""
    root, _ = place(settings)
    _check_root(root)
    if settings.admin_key is None:
        raise NotConfigured(
            "There is no offset to serve: give --offset (DELTASERVE_OFFSET), a checkpoint under the offsets root, or "
            "an admin key (DELTASERVE_ADMIN_KEY) to load one later."
        )


def _check_checkpoint(settings: Settings, root: Path, path: str) -> None:
    from deltaserve.offset_models.checkpoints.checkpoint import read_manifest
    from deltaserve.offset_models.files.safe_files import within

    if settings.offsets_root is not None:
        _check_root(root)
    elif not (root / path).exists():
        raise BadCheckpoint(f"The offset {root / path} does not exist: give --offset a checkpoint folder.")
    folder = within(root, path)
    manifest = read_manifest(folder)
    for name, entry in manifest.files.items():
        if (folder / name).stat().st_size != entry.bytes:
            raise BadCheckpoint(
                f"{name} has {(folder / name).stat().st_size} bytes where offset.json says {entry.bytes}; it may be "
                "truncated."
            )
    _check_base(settings, folder, manifest)


def _check_base(settings: Settings, folder: Path, manifest: "Manifest") -> None:
    """Checks that the base model's folder is there. Its digest is compared when it is read."""
    if manifest.base is None:
        return
    beside = None if manifest.base.path is None else folder / manifest.base.path
    base = (
        settings.base
        if beside is None or (settings.base is not None and not (beside / "config.json").is_file())
        else beside
    )
    if base is None:
        raise BadCheckpoint(
            f"The offset {manifest.name} needs its base model {manifest.base.name!r}: give that model's folder with "
            "--base (DELTASERVE_BASE)."
        )
    if not (base / "config.json").is_file():
        raise BadCheckpoint(
            f"The base model's folder {base} holds no model (no config.json): give the folder of "
            f"{manifest.base.name!r} with --base."
        )


def _check_root(root: Path) -> None:
    try:
        next(root.iterdir(), None)
    except OSError as error:
        reason = {FileNotFoundError: "does not exist", NotADirectoryError: "is no folder"}.get(type(error))
        raise BadCheckpoint(
            f"The offsets root {root} {reason or f'cannot be read ({error.strerror})'}: set --offsets-root to the "
            "folder that holds the checkpoints."
        ) from None


def _unwritable(there: Path, where_a_file: int) -> int | None:
    """The error number that making a folder there would give."""
    if not there.is_dir():
        return where_a_file
    return None if os.access(there, os.W_OK | os.X_OK) else errno.EACCES


def _refuse_full(folder: Path) -> None:
    """Raises StateFolderUnusable where not even a small file can be written: no room, no rights, read-only."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe.") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
    except OSError as error:
        raise StateFolderUnusable(
            f"The state folder {folder} cannot be written ({error.strerror}): make room, or set state_folder to one "
            "that can."
        ) from None
