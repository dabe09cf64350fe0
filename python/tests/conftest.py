"""Brokers, and Python programs as processes of their own."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

#: Generous: the machine may have other things to do.
SOON = 30


def until_asleep(process: int, thread: int | None = None) -> None:
    """Until a thread, else the first of a process, waits for something."""
    end = time.monotonic() + SOON
    while Path(f"/proc/{process}/task/{thread or process}/stat").read_text().rpartition(")")[2].split()[0] != "S":
        assert time.monotonic() < end, "it does not wait"


class Program:
    """A Python program in a process of its own."""

    def __init__(self, source: str, *arguments: str, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(source), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def hears(self) -> str:
        """The next line that it says."""
        # Its end is heard as well; faulthandler says where it was.
        limit = threading.Timer(SOON, self.process.send_signal, (signal.SIGABRT,))
        limit.start()
        line = self.process.stdout.readline()
        limit.cancel()
        if not line:
            _, errors = self.process.communicate(timeout=SOON)
            raise AssertionError(f"it has ended with {self.process.returncode}: {errors}")
        return line.strip()

    def tell(self) -> None:
        """Has it go on with what it waits for by `input()`."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def interrupt(self) -> None:
        """Ctrl-C, when it waits for something."""
        until_asleep(self.process.pid)
        self.process.send_signal(signal.SIGINT)

    def ends(self, status: int = 0) -> str:
        """What else it says, after it has ended with `status`."""
        try:
            said, errors = self.process.communicate(timeout=SOON)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # faulthandler says where it is
            _, errors = self.process.communicate(timeout=SOON)
            raise AssertionError(f"it does not end: {errors}") from None
        assert self.process.returncode == status, errors
        return said.strip()


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A folder for sockets, whose paths have to be short."""
    with tempfile.TemporaryDirectory(prefix="jitney-") as folder:
        yield Path(folder)


@pytest.fixture
def program(runtime: Path) -> Iterator[Callable[..., Program]]:
    """Starts Python programs, none of which outlives the test."""
    programs: list[Program] = []

    def start(source: str, *arguments: str, broker: Path | None = None) -> Program:
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime), "PYTHONUNBUFFERED": "1"}
        environment.pop("JITNEY_BROKER", None)
        if broker is not None:
            environment["JITNEY_BROKER"] = str(broker)
        programs.append(Program(source, *arguments, environment=environment))
        return programs[-1]

    yield start
    for own in programs:
        if own.process.poll() is None:
            own.process.kill()
        own.process.communicate()


@pytest.fixture(scope="session")
def command() -> str:
    """The command `jitney`, which is built by another tool."""
    found = os.environ.get("JITNEY_COMMAND") or shutil.which("jitney")
    if found is None:
        pytest.skip("there is no command jitney: name it by JITNEY_COMMAND")
    return found


@pytest.fixture
def broker(command: str, runtime: Path) -> Iterator[Callable[..., Path]]:
    """Starts brokers of emulated boards; says at which socket."""
    brokers: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> Path:
        socket = runtime / f"broker-{len(brokers)}.sock"
        own = subprocess.Popen(
            [command, "broker", "--socket", str(socket), *arguments],
            env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)},
            stdout=subprocess.PIPE,
            text=True,
        )
        brokers.append(own)
        assert own.stdout is not None
        while not (line := own.stdout.readline()).startswith("listening"):
            assert line, "it has ended"
        return socket

    yield start
    for own in brokers:
        own.terminate()
        own.communicate(timeout=SOON)
