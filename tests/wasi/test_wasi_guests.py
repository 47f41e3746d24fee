"""Programs compiled from C, end to end on the engine; the same programs on wasmtime."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.wasi.guest_runner import GUESTS, instantiate, run_ours, run_wasmtime
from wasinn_host.wasi import Preopen, Stdio, WasiConfig, WasiContext
from wasinn_host.wasi.paths import Resolver
from wasinn_runtime import Config, Engine, Interrupted, Store

#: The compiler of the committed guests.
ZIGLANG = "0.17.1"
BUILD = {
    "files": (),
    "process": (),
    "escape": (),
    "waits": (),
    "reactor": ("-mexec-model=reactor",),
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(Config(cache_dir=tmp_path_factory.mktemp("cache")))


@pytest.mark.parametrize("name", BUILD)
def test_the_committed_guest_is_what_its_source_gives(name: str, tmp_path: Path) -> None:
    version = importlib.metadata.version("ziglang")
    if version != ZIGLANG:
        pytest.skip(f"the guests were built with ziglang {ZIGLANG}, this is {version}")
    built = tmp_path / f"{name}.wasm"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-Os", "-s"]
    subprocess.run(
        [*command, *BUILD[name], "-o", str(built), f"{name}.c"], cwd=GUESTS, check=True, timeout=300
    )
    assert built.read_bytes() == (GUESTS / f"{name}.wasm").read_bytes()


def test_files_as_on_wasmtime(engine: Engine, resolver: Resolver, tmp_path: Path) -> None:
    outcomes = []
    for number in range(2):
        directory = tmp_path / str(number)
        directory.mkdir()
        preopens = [Preopen(directory, "/work")]
        args = ["files", "/work"]
        if number:
            outcomes.append(run_wasmtime(GUESTS / "files.wasm", args=args, preopens=preopens))
        else:
            config = WasiConfig(args=args, preopens=preopens)
            outcomes.append(run_ours(engine, GUESTS / "files.wasm", config, resolver=resolver))
        assert sorted(os.listdir(directory)) == ["hard", "link", "sub"]
    ours, theirs = outcomes
    assert ours == theirs
    assert ours.status == 0
    assert "many: 300 entries: entry-with-a-longer-name-000" in ours.stdout
    assert "mtime 200.000000007" in ours.stdout


def test_process_as_on_wasmtime(engine: Engine) -> None:
    args = ["process", "42", "zwölf", ""]
    env = {"HOME": "/", "EMPTY": "", "TEXT": "日本 = x"}
    stdin = b"one\ntwo\n"
    ours = run_ours(engine, GUESTS / "process.wasm", WasiConfig(args=args, env=env, stdin=stdin))
    theirs = run_wasmtime(GUESTS / "process.wasm", args=args, env=env, stdin=stdin)
    assert ours == theirs
    assert ours.status == 42
    assert "slept long enough 1, not too long 1" in ours.stdout
    assert ours.stdout.endswith("stdin one\nstdin two\n")
    assert ours.stderr == "to stderr\n"


@pytest.mark.parametrize("status", [0, 1, 126, 255, 256, -1])
def test_exit_status_is_the_guests(engine: Engine, status: int) -> None:
    config = WasiConfig(args=["process", str(status)], stdin=b"")
    assert run_ours(engine, GUESTS / "process.wasm", config).status == status & 0xFFFF_FFFF


def test_nothing_outside_can_be_reached(engine: Engine, resolver: Resolver, root: Path) -> None:
    (root / "data" / "d").mkdir(parents=True)
    (root / "data" / "mine").touch()
    (root / "outside").mkdir()
    (root / "outside" / "canary").write_bytes(b"canary")
    os.symlink("../outside", root / "data" / "hostlink")
    os.symlink(root / "outside", root / "data" / "absolute-hostlink")
    (root / "ro").mkdir()
    (root / "ro" / "f").write_bytes(b"fixed")
    config = WasiConfig(
        args=["escape"],
        preopens=[Preopen(root / "data", "/data"), Preopen(root / "ro", "/ro", read_only=True)],
    )
    lines: list[str] = []
    outcome = run_ours(
        engine, GUESTS / "escape.wasm", config, resolver=resolver, trace=lines.append
    )
    assert outcome.status == 0, outcome.stdout
    assert outcome.stdout.endswith("\n0 worked\n")
    assert outcome.stdout.count("Capabilities insufficient") >= 8
    assert outcome.stdout.count("Read-only file system") == 6
    assert (root / "outside" / "canary").read_bytes() == b"canary"
    assert os.listdir(root / "outside") == ["canary"]
    assert (root / "ro" / "f").read_bytes() == b"fixed"
    assert any("NOTCAPABLE" in line for line in lines)


@pytest.mark.parametrize("how", ["sleep", "read", "poll", "write"])
@pytest.mark.parametrize("in_thread", [False, True])
def test_a_waiting_guest_ends_at_its_deadline(engine: Engine, how: str, in_thread: bool) -> None:
    stdin, feed = os.pipe()
    drain, stdout = os.pipe()
    config = WasiConfig(args=["waits", how], stdin=stdin, stdout=stdout, stderr=Stdio.NULL)
    # Compiled before the clock starts.
    run_ours(engine, GUESTS / "waits.wasm", WasiConfig(args=["waits"]))
    ended: list[tuple[BaseException, float]] = []

    def run() -> None:
        started = time.monotonic()
        try:
            run_ours(engine, GUESTS / "waits.wasm", config, timeout_s=0.3)
        except Interrupted as error:
            ended.append((error, time.monotonic() - started))

    try:
        if in_thread:
            thread = threading.Thread(target=run)
            thread.start()
            thread.join(60)
        else:
            run()
    finally:
        for fd in (stdin, feed, drain, stdout):
            os.close(fd)
    [(error, took_s)] = ended
    assert "timeout" in str(error)
    assert 0.25 < took_s < 5


def test_an_exception_of_a_callback_is_the_callers(engine: Engine) -> None:
    mine = KeyboardInterrupt("mine")

    def fail(data: bytes) -> None:
        raise mine

    config = WasiConfig(args=["process"], stdin=b"", stdout=fail)
    with pytest.raises(KeyboardInterrupt) as caught:
        run_ours(engine, GUESTS / "process.wasm", config)
    assert caught.value is mine


def test_a_reactor_keeps_its_state(engine: Engine, tmp_path: Path) -> None:
    config = WasiConfig(preopens=[Preopen(tmp_path, "/data")])
    with WasiContext(config) as context:
        store = Store(engine)
        exports = instantiate(engine, GUESTS / "reactor.wasm", context, store).exports
        exports._initialize()
        assert [exports.note(value) for value in (7, 8, -9)] == [1, 2, 3]
    assert (tmp_path / "log").read_text() == "1: 7\n2: 8\n3: -9\n"


def test_streams_go_to_the_processes_own(engine: Engine, tmp_path: Path) -> None:
    """Inherited streams, in a child so that they can be looked at from outside."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.wasi.guest_runner import GUESTS, instantiate\n"
        "from wasinn_host.wasi import WasiConfig, WasiContext\n"
        "from wasinn_runtime import Config, Engine, GuestExit, Store\n"
        "engine = Engine(Config(cache_dir=Path(sys.argv[1])))\n"
        "print('before', end=' ')\n"
        "with WasiContext(WasiConfig(args=['process', '7'])) as context:\n"
        "    try:\n"
        "        instantiate(engine, GUESTS / 'process.wasm', context, Store(engine))"
        ".exports._start()\n"
        "    except GuestExit as exit_:\n"
        "        sys.exit(exit_.code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
        input="a line\n",
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 7, done.stderr
    assert done.stdout.startswith("before argv[0]=process\n")
    assert done.stdout.endswith("stdin a line\n")
    assert done.stderr == "to stderr\n"
