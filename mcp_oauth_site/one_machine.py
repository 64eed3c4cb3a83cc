"""SQLite is for one machine: its locks and its shared memory do not reach another one. F25."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

_MOUNTS: Final = Path("/proc/mounts")
# As /proc/mounts calls them.
_SHARED: Final = frozenset(
    "afs beegfs ceph cifs fuse.ceph fuse.glusterfs fuse.sshfs gfs2 glusterfs lustre nfs nfs4 ocfs2 smb3 smbfs".split()
)


@register()
def check_file_is_local(**kwargs: Any) -> Sequence[CheckMessage]:
    """Refuse a SQLite file where several machines could use it at once."""
    database = settings.DATABASES["default"]
    if not database["ENGINE"].endswith("sqlite3") or not _MOUNTS.exists():
        return []
    kind = file_system_of(Path(str(database["NAME"])).resolve(), mounts=_MOUNTS.read_text())
    if kind not in _SHARED:
        return []
    return [
        Error(
            f"The SQLite file lies on a file system that several machines share ({kind}).",
            hint="Set DATABASE_URL to a PostgreSQL database, or keep DATA_DIR on a disk of this machine.",
            id="site.E001",
        )
    ]


def file_system_of(path: Path, *, mounts: str) -> str:
    """Return the kind of file system that holds an absolute path, from lines `device point kind …`."""
    fields = (line.split() for line in mounts.splitlines())
    kinds = {Path(point.replace("\\040", " ")): kind for _, point, kind, *_ in fields}
    return next((kinds[folder] for folder in (path, *path.parents) if folder in kinds), "")
