"""A disk that can be full: a small tmpfs where mounting is permitted, else a limit on the size of files."""

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SIZE_BYTES = 6 * 1024 * 1024
# The limit that stands for a full disk where nothing can be mounted; logs and captures stay below it.
LIMIT_BYTES = 256 * 1024


class Disk:
    """A folder whose disk is filled up and freed on command."""

    def __init__(self, folder: Path, *, mounted: bool) -> None:
        """Take the folder; `mounted` says whether a disk of its own is mounted there."""
        self.folder = folder
        self._mounted = mounted
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self) -> None:
        """Leave no room for a document."""
        if not self._mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, self._before[1]))
            return
        with (self.folder / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(bytes(4096))

    def free(self) -> None:
        """Give the room back."""
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)
        (self.folder / "filler").unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    """Yield a disk of a few megabytes at this new folder."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "none", str(folder)]
    mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    disk = Disk(folder, mounted=mounted)
    try:
        yield disk
    finally:
        disk.free()
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)
