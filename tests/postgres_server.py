"""A PostgreSQL server for tests that need one."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.services import need

_BINARIES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), Path("/usr/lib/postgresql"))


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sa.URL]:
    """A PostgreSQL of our own, and its URL."""
    need((_BINARIES / "initdb").exists(), f"no PostgreSQL server: {_BINARIES} has no initdb")
    folder = Path("/tmp") / f"dsflow-postgres-{uuid.uuid4().hex[:8]}"  # the server's user cannot enter pytest's folders
    folder.mkdir(mode=0o700)
    # PostgreSQL refuses to run as root.
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
    if user:
        shutil.chown(folder, "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = str(folder / "data")
    initdb = [*user, str(_BINARIES / "initdb"), "-D", data, "-U", "dsflow", "--auth=trust", "--no-sync"]
    subprocess.run(initdb, check=True, capture_output=True, cwd="/")
    command = [*user, str(_BINARIES / "postgres"), "-D", data, "-p", str(port), "-k", str(folder), "-h", "127.0.0.1"]
    with (tmp_path_factory.mktemp("postgres") / "log").open("w") as log:
        server = subprocess.Popen([*command, "-F"], stdout=log, stderr=log, cwd="/")
    url = sa.make_url(f"postgresql+psycopg://dsflow@127.0.0.1:{port}/postgres")
    try:
        wait_for(url)
        yield url
    finally:
        server.send_signal(signal.SIGINT)  # PostgreSQL's word for: disconnect everybody and end
        server.wait(30)
        shutil.rmtree(folder)


def wait_for(url: sa.URL) -> None:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    for _ in range(300):
        try:
            engine.connect().close()
            return
        except sa.exc.OperationalError:
            time.sleep(0.1)
    pytest.fail("PostgreSQL did not start within 30 s")
