"""What is printed in documents works word by word."""

import re
from pathlib import Path

import pytest

import jitney

FOLDER = Path(__file__).parent.parent
README = (FOLDER / "README.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```python{kind}\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("block", blocks(""), ids=lambda block: block.strip().splitlines()[-1].strip()[:40])
def test_the_readmes_programs_run(program, block):
    assert program(block).ends()


def test_the_readme_says_what_is_printed(program):
    said = program(blocks("")[0]).ends()
    assert "<jitney.Board NiteFury version 2 (Project-0)>" in said and "0x4e495445" in said
    for printed in re.findall(r"print\(.*# (<.*>|0x\S+)", README):
        assert printed.split(":")[0] in said


def test_the_readmes_tests_pass(pytester):
    (tests,) = blocks(" test")
    pytester.makepyfile(tests)
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=2)


def test_every_error_is_in_the_readme():
    errors = [name for name in jitney.__all__ if name.endswith("Error") and name != "Error"]
    assert [name for name in errors if f"`{name}`" not in README] == []


def test_the_notebook_runs_and_shows_plots(tmp_path):
    nbclient = pytest.importorskip("nbclient", reason="no nbclient here")
    nbformat = pytest.importorskip("nbformat", reason="no nbformat here")
    pytest.importorskip("matplotlib", reason="no matplotlib here")
    notebook = nbformat.read(FOLDER / "notebooks" / "first_hour.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    plots = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(plots) == 2
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")


def test_the_notebook_is_kept_without_what_it_shows():
    text = (FOLDER / "notebooks" / "first_hour.ipynb").read_text()
    assert "image/png" not in text and '"execution_count": null' in text
