"""Loads checkpoints that appear under the offsets root, without activating them."""

import asyncio
import os
from pathlib import Path
from typing import Any, Final, Protocol

from deltaserve.errors import BadCheckpoint, DeltaserveError
from deltaserve.offset_models.checkpoints.manifest import MANIFEST_FILE, Manifest, parse_manifest
from deltaserve.offset_models.files.safe_files import read_bounded
from deltaserve.offset_models.registry.audit import Actor

WATCHER: Final = Actor(key_id="watch-folder", request_id="-")
MAX_NAME: Final = 64

Signature = tuple[tuple[str, int, int], ...]  # (path, bytes, time of change in ns) of every file


class Loader(Protocol):
    """What the watcher calls of the registry."""

    async def load(self, name: str, path: str, *, actor: Actor) -> Any: ...


class WatchFolder:
    """Looks at the folders directly under `root`. One is taken when nothing in it changed between two looks and every
    file that its manifest lists is there in full. What lies there at the start is not new. Hidden folders and links
    are passed over, so a pipeline may build in `.name` and rename.
    """

    def __init__(self, registry: Loader, root: Path, log: Any, interval_s: float) -> None:
        self._registry = registry
        self._root = root
        self._log = log
        self._interval_s = interval_s
        self._seen = _signatures(root)
        self._done = dict(self._seen)

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            for name, signature in (await asyncio.to_thread(self._settled)).items():
                await self._take(name, signature)

    def _settled(self) -> dict[str, Signature]:
        """Folders that are new or changed, and have stood still since the last look. Blocking."""
        now = _signatures(self._root)
        before, self._seen = self._seen, now
        self._done = {name: signature for name, signature in self._done.items() if name in now}
        return {
            name: signature
            for name, signature in now.items()
            if signature and before.get(name) == signature != self._done.get(name)
        }

    async def _take(self, name: str, signature: Signature) -> None:
        try:
            manifest = await asyncio.to_thread(_manifest, self._root / name)
        except BadCheckpoint:
            manifest = None  # the registry says what is wrong with it, and records that
        if manifest is not None and not _complete(manifest, signature):
            self._done[name] = signature  # more files will change the signature
            self._log.info("checkpoint incomplete", folder=name)
            return
        offset = manifest.name if manifest else name[:MAX_NAME]
        try:
            await self._registry.load(offset, name, actor=WATCHER)
        except DeltaserveError as error:
            self._log.warning("checkpoint not loaded", folder=name, offset=offset, reason=error.message)
            if error.retryable:
                return
        except Exception as error:  # noqa: BLE001  (a defect on one folder must not end the watch over the others)
            self._log.error("defect", folder=name, error=type(error).__name__)
        else:
            self._log.info("checkpoint loaded", folder=name, offset=offset)
        self._done[name] = signature


def _manifest(folder: Path) -> Manifest:
    return parse_manifest(read_bounded(folder / MANIFEST_FILE))


def _complete(manifest: Manifest, signature: Signature) -> bool:
    sizes = {path: size for path, size, _ in signature}
    return all(sizes.get(path) == entry.bytes for path, entry in manifest.files.items())


def _signatures(root: Path) -> dict[str, Signature]:
    """Of every plain folder with a manifest."""
    try:
        folders = [entry for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return {}  # an unmounted root is not there for now; loads say so
    return {
        folder.name: _signature(Path(folder.path))
        for folder in folders
        if not folder.name.startswith(".") and Path(folder.path, MANIFEST_FILE).is_file()
    }


def _signature(folder: Path) -> Signature:
    entries = []
    for parent, _, files in os.walk(folder):
        for name in files:
            path = Path(parent, name)
            try:
                facts = path.lstat()
            except OSError:
                continue  # gone since it was listed: the next look differs
            entries.append((path.relative_to(folder).as_posix(), facts.st_size, facts.st_mtime_ns))
    return tuple(sorted(entries))
