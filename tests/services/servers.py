"""Database servers of the tests' own, which may be killed: their data is thrown away."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

_PATIENCE = 60.0


def _binary(name):
    """Where a server's program is, also where its package keeps it off the PATH."""
    versions = sorted(
        Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: float(p.parts[4])
    )
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    found = found or next(map(str, reversed(versions)), None)
    if found is None:
        reason = f"needs the program {name}, to start a server of its own"
        if os.environ.get("REQUIRE_SERVICES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def _unprivileged():
    """PostgreSQL does not run as root; the user that its package made has it run."""
    if os.geteuid() != 0:
        return {}
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        user = pwd.getpwnam("nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


class _Server:
    """One server with its data in a folder; it listens on a Unix socket alone."""

    def __init__(self, folder):
        self.folder = folder
        self._log = (folder / "server.log").open("ab")
        self._process = None
        self._identity = {}

    def start(self):
        """Start it, and again until it has let go of what a killed one held."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            self._process = subprocess.Popen(
                self._command(), stdout=self._log, stderr=self._log, **self._identity
            )
            while self._process.poll() is None:
                if self._answers():
                    return
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.02)
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def kill(self, number=signal.SIGKILL):
        """End it without a checkpoint and without a word to its clients."""
        self._process.send_signal(number)
        self._process.wait(_PATIENCE)

    def close(self):
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self._log.close()

    def log(self):
        return (self.folder / "server.log").read_text(errors="replace")[-3000:]

    def _run(self, *command):
        done = subprocess.run(
            command, stdout=self._log, stderr=self._log, check=False, **self._identity
        )
        assert done.returncode == 0, self.log()


class PostgreSQL(_Server):
    """Killed in two ways: as ``pg_ctl stop -m immediate`` does, and without any notice."""

    deaths = (signal.SIGQUIT, signal.SIGKILL)

    def __init__(self, folder):
        super().__init__(folder)
        self._identity = _unprivileged()
        if self._identity:
            os.chown(folder, self._identity["user"], self._identity["group"])
        self.data = folder / "data"
        options = (
            "--auth=trust",
            "--username=tests",
            "--no-sync",
            "--encoding=UTF8",
            "--no-locale",
        )
        self._run(_binary("initdb"), "-D", str(self.data), *options)

    def settings(self):
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "postgres",
            "USER": "tests",
            "HOST": str(self.folder),
            "PORT": "5432",
        }

    def _command(self):
        given = {
            "listen_addresses": "",
            "unix_socket_directories": self.folder,
            "port": 5432,
            "fsync": "on",
            "shared_buffers": "16MB",
        }
        options = [part for name, said in given.items() for part in ("-c", f"{name}={said}")]
        return [_binary("postgres"), "-D", str(self.data), *options]

    def _answers(self):
        import psycopg  # noqa: PLC0415 - only where it is tested

        try:
            psycopg.connect(host=str(self.folder), user="tests", dbname="postgres").close()
        except psycopg.OperationalError:
            return False
        return True


class MariaDB(_Server):
    deaths = (signal.SIGKILL,)

    def __init__(self, folder):
        super().__init__(folder)
        self.data = folder / "data"
        self.socket = folder / "socket"
        self._user = pwd.getpwuid(os.geteuid()).pw_name
        self._run(
            _binary("mariadb-install-db"),
            "--no-defaults",
            f"--datadir={self.data}",
            f"--user={self._user}",
            "--auth-root-authentication-method=normal",
        )

    def settings(self):
        return {
            "ENGINE": "django.db.backends.mysql",
            "NAME": "test",
            "USER": "root",
            "HOST": str(self.socket),
            "OPTIONS": {"charset": "utf8mb4"},
        }

    def _command(self):
        return [
            _binary("mariadbd"),
            "--no-defaults",
            f"--datadir={self.data}",
            f"--socket={self.socket}",
            f"--pid-file={self.folder / 'pid'}",
            f"--user={self._user}",
            "--skip-networking",
            "--innodb-buffer-pool-size=32M",
            "--innodb-flush-log-at-trx-commit=1",
            "--character-set-server=utf8mb4",
        ]

    def _answers(self):
        import MySQLdb  # noqa: PLC0415 - only where it is tested

        try:
            MySQLdb.connect(unix_socket=str(self.socket), user="root").close()
        except MySQLdb.OperationalError:
            return False
        return True


@contextmanager
def own_server(vendor):
    """A new server of this kind, started."""
    # Not in pytest's folder: other users may not enter it, and a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="audit-server-", ignore_cleanup_errors=True) as name:
        server = {"postgresql": PostgreSQL, "mysql": MariaDB}[vendor](Path(name))
        try:
            server.start()
            yield server
        finally:
            server.close()
