"""Python has a test of everything that the list of all faces names."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
LIST = TESTS.parent.parent / "crates" / "faces" / "scenarios.txt"


def test_every_scenario_has_a_test():
    if not LIST.exists():
        pytest.skip("the list of scenarios is not beside the package")
    lines = [line.split() for line in LIST.read_text().splitlines() if not line.startswith("#")]
    # Which faces a scenario is for stands in brackets, if not for all.
    wanted = {line[0] for line in lines if not line[1].startswith("[") or "python" in line[1]}
    marks = [
        mark
        for file in TESTS.glob("test_*.py")
        for mark in re.findall(r"^@pytest\.mark\.scenario\((.*)\)$", file.read_text(), re.MULTILINE)
    ]
    tested = {name for mark in marks for name in re.findall(r'"(\w+)"', mark)}
    assert tested == wanted
