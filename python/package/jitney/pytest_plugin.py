"""The fixture ``board``: a card for a test, emulated unless a real one is named.

Which board a test wants it says by ``@pytest.mark.board("litefury", memory=1 << 20)``, whose arguments are those of
:func:`jitney.emulate`; else it gets a NiteFury. ``pytest --jitney-card 0000:2e:00.0`` runs tests that want no board of their own on
that card, reset before each.
"""

from collections.abc import Iterator

import pytest

import jitney


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("jitney")
    group.addoption(
        "--jitney-card",
        metavar="CARD",
        help="run tests of the fixture `board` on this card: its address, vendor:device, or board",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "board(name, **options): the emulated board that the fixture `board` is")


@pytest.fixture
def board(request: pytest.FixtureRequest) -> Iterator[jitney.Card]:
    """A card for this test, open; closed behind it."""
    wanted = request.node.get_closest_marker("board")
    real = request.config.getoption("--jitney-card")
    if real is not None and wanted is not None:
        pytest.skip(f"it wants an emulated board, and --jitney-card {real} was given")
    if real is None:
        arguments, options = (wanted.args, wanted.kwargs) if wanted is not None else (("nitefury",), {})
        with jitney.emulate(*arguments, **options) as card:
            yield card
        return
    with jitney.open(real) as card:
        card.reset()
        yield card
