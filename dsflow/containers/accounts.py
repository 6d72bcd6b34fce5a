"""The caller as a container knows them: without a name for its uid, `getpass`, Spark and others break in it."""

from __future__ import annotations

import os
from pathlib import Path


def passwd_file(folder: Path) -> Path:
    """Give a file to mount as `/etc/passwd` that names the caller; it is made in `folder` where it is missing."""
    uid, gid = os.getuid(), os.getgid()
    text = "root:x:0:0:root:/tmp:/bin/sh\n" + (f"job:x:{uid}:{gid}:job:/tmp:/bin/sh\n" if uid else "")
    path = folder / f"passwd-{uid}-{gid}"
    if not path.exists():
        from dsflow.durable import write_text

        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    return path
