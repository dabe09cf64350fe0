"""The type stubs: they fit what is there, and programs that use them."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent
pytest.importorskip("mypy", reason="no mypy here")


def run(*words: str, cwd: Path = FOLDER) -> str:
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_stubs_have_what_there_is(tmp_path):
    # Not in the source folder, where the package is without the extension.
    run("mypy.stubtest", "jitney", "--allowlist", str(FOLDER / "tests" / "stubtest.txt"), cwd=tmp_path)


def test_programs_are_checked_by_the_stubs(tmp_path):
    cache = str(tmp_path / "cache")
    run("mypy", "--strict", "--cache-dir", cache, str(FOLDER / "tests" / "typing_of_a_program.py"), cwd=tmp_path)


def test_what_is_wrong_is_found(tmp_path):
    wrong = [
        "card.bar('zero')",
        "card.h2c(wait='sometimes')",
        "card.h2c().write('text')",
        "card.bar(0)[0] = 'text'",
        "card.registers['xadc'] + 1",
        "card.nothing",
    ]
    program = tmp_path / "program.py"
    program.write_text("\n".join(["import jitney", "card = jitney.emulate('nitefury')", *wrong]))
    words = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), str(program)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    found = {int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error:" in line}
    assert found == set(range(3, 3 + len(wrong))), done.stdout
