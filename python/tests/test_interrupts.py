"""Interrupts of the design's own logic."""

import asyncio
import threading

import pytest

import jitney


@pytest.mark.scenario("interrupt")
def test_a_line_is_heard(board):
    with board.user_interrupt(0) as line:
        assert not line.wait(timeout=0.01) and not line.raised
        board.set_user_interrupt(0, True)
        assert line.wait() and line.raised
        board.set_user_interrupt(0, False)
        assert not line.wait(timeout=0)
        timer = threading.Timer(0.05, board.set_user_interrupt, (0, True))
        timer.start()
        assert line.wait(timeout=60)
        timer.join()
    with pytest.raises(jitney.ClosedError):
        line.wait()


def test_a_line_is_one_programs(board):
    with board.user_interrupt(1), pytest.raises(jitney.HeldError):
        board.user_interrupt(1)
    with pytest.raises(jitney.InvalidError, match="16, counted from 0"):
        board.user_interrupt(99)


@pytest.mark.board("nitefury", interrupts="intx")
def test_lines_are_awaited_also_where_they_share_a_vector(board):
    async def both() -> list[int]:
        heard = []

        async def hear(number: int) -> None:
            with board.user_interrupt(number) as line:
                for _ in range(3):
                    await line
                    heard.append(number)
                    board.set_user_interrupt(number, False)

        async def ring() -> None:
            for number in (0, 1, 1, 0, 1, 0):
                before = len(heard)
                board.set_user_interrupt(number, True)
                while len(heard) == before:
                    await asyncio.sleep(0.001)

        await asyncio.gather(hear(0), hear(1), ring())
        return heard

    assert asyncio.run(both()) == [0, 1, 1, 0, 1, 0]


def test_a_vector_of_its_own(board):
    assert board.vectors >= 1
    with board.interrupt(0) as vector:
        assert not vector.wait(timeout=0.01)
        with pytest.raises(jitney.HeldError, match="irq0"):
            board.h2c(wait="interrupt") and board.interrupt(0)
