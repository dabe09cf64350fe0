"""Transfers: blocking, under way, awaited, and those that fail."""

import asyncio
import os
import threading
import time

import numpy as np
import pytest
from conftest import until_asleep

import jitney

#: On which a transfer from the card lasts until somebody sends a packet.
STREAM = pytest.mark.board("NiteFury_dma_stream_loopback")


@pytest.mark.scenario("written_and_read_back")
@pytest.mark.parametrize("wait", ["poll", "interrupt", "adaptive"])
def test_what_was_written_is_read(board, wait):
    h2c, c2h = board.h2c(wait=wait), board.c2h(wait=wait)
    sent = np.random.default_rng(1).integers(0, 256, 3_000_000, dtype="u1")
    got = np.zeros_like(sent)
    assert h2c.write(sent, at=0x1234).bytes == c2h.read(got, at=0x1234).bytes == len(sent)
    assert (sent == got).all()
    few = bytearray(5)
    h2c.write(b"hello")
    assert c2h.read(few).bytes == 5 and few == b"hello"


def test_wrong_bytes_are_refused(board):
    h2c, c2h = board.h2c(), board.c2h()
    with pytest.raises(jitney.InvalidError, match="no bytes"):
        h2c.write(b"")
    with pytest.raises(jitney.InvalidError, match="read-only"):
        c2h.read(b"x")
    for wrong in ("text", 5, None):
        with pytest.raises(TypeError):
            h2c.write(wrong)
    with pytest.raises(jitney.InvalidError, match="buffer"):
        h2c.submit(b"not DMA memory")
    with pytest.raises(jitney.InvalidError, match="memory-mapped"):
        c2h.receive(bytearray(5))
    with pytest.raises(OverflowError):
        h2c.write(b"x", at=-1)
    for wrong in ("pol", ""):
        with pytest.raises(jitney.InvalidError, match="adaptive"):
            board.h2c(wait=wrong)


def test_a_channel_is_one_programs(board):
    h2c = board.h2c()
    with pytest.raises(jitney.HeldError, match="h2c0") as caught:
        board.h2c()
    assert caught.value.holder == "this process"
    h2c.close()
    with board.h2c() as h2c:
        h2c.write(b"x")
    with pytest.raises(jitney.ClosedError):
        h2c.write(b"x")


@pytest.mark.scenario("gather")
def test_pieces_of_buffers_are_one_transfer():
    with jitney.emulate("nitefury", memory=1 << 20) as card, card.h2c() as h2c, card.c2h() as c2h:
        head, body = card.buffer(4096), card.buffer(8192)
        head.array()[:64] = 1
        body.array()[:] = np.arange(8192, dtype="u4").astype("u1")
        # One behind the other.
        done = h2c.write([head.array()[:64], body], at=0x1000)
        assert (done.bytes, done.descriptors >= 2) == (64 + 8192, True)
        flat = bytearray(64 + 8192)
        c2h.read(flat, at=0x1000)
        assert flat == bytes(head.array()[:64]) + bytes(body.array())
        # Each where it belongs, and while the program goes on.
        back = card.buffer(4096).array()
        h2c.submit([(body.array()[:256], 0x8000), head.array()[:64], (body.array()[256:512], 0x9000)]).wait()

        async def scatter():
            return await c2h.submit([(back[512:768], 0x9000), (back[:256], 0x8000), back[256:320]])

        assert asyncio.run(scatter()).bytes == 576
        assert bytes(back[:256]) == bytes(body.array()[:256]) and set(back[256:320]) == {1}
        assert bytes(back[512:768]) == bytes(body.array()[256:512])
        for nothing in ([], [b"no DMA memory"], [(head, 0), b"none"]):
            with pytest.raises(jitney.InvalidError):
                h2c.write(nothing)
        for wrong in ([1], [(head,)], [(head, 0, 0)], [(head, -1)]):
            with pytest.raises((TypeError, ValueError, OverflowError, BufferError)):
                h2c.submit(wrong)
        with pytest.raises(jitney.OutOfBoundsError):
            h2c.submit([(head, 2**64 - 4096), body])


@pytest.mark.scenario("link_down")
def test_a_transfer_that_fails_says_why_and_the_channel_goes_on(board):
    h2c = board.h2c()
    with pytest.raises(jitney.TransferError, match="nothing answers at that card address"):
        h2c.write(b"x", at=1 << 40)
    h2c.write(b"x")
    with jitney.emulate("nitefury", faults=["hang:h2c0@1"]) as card, card.h2c(timeout=0.1) as hung:
        with pytest.raises(jitney.TimedOutError, match="no progress"):
            hung.write(b"x")
    board.inject("link-down")
    with pytest.raises(jitney.LinkDownError) as caught:
        board.h2c()
    assert caught.value.remedy


def test_transfers_are_under_way_until_they_are_done(board):
    h2c, buffer = board.h2c(), board.buffer(1 << 20)
    array = buffer.array()
    transfers = [h2c.submit(array[start : start + 4096], at=start) for start in range(0, 1 << 20, 4096)]
    assert sum(transfer.wait().bytes for transfer in transfers) == 1 << 20
    assert all(transfer.done() for transfer in transfers) and not transfers[0].cancel()
    assert transfers[0].wait().bytes == 4096
    assert "done" in repr(transfers[0])


@pytest.mark.scenario("cancelled")
@STREAM
def test_a_wait_can_have_an_end_and_the_transfer_none(board):
    transfer = board.c2h().submit(board.buffer(4096))
    started = time.monotonic()
    with pytest.raises(jitney.TimedOutError):
        transfer.wait(timeout=0.05)
    assert 0.04 < time.monotonic() - started < 5
    assert not transfer.done() and "under way" in repr(transfer)
    assert transfer.cancel() and transfer.done()
    with pytest.raises(jitney.CancelledError):
        transfer.wait()
    for wrong in (-1, float("nan")):
        with pytest.raises(jitney.InvalidError, match="timeout"):
            transfer.wait(timeout=wrong)


@pytest.mark.scenario("in_flight_and_polled")
@pytest.mark.parametrize("wait", ["poll", "interrupt", "adaptive"])
def test_many_transfers_are_awaited(board, wait):
    h2c, c2h = board.h2c(wait=wait), board.c2h(wait=wait)
    source, target = board.buffer(1 << 20).array(), board.buffer(1 << 20).array()
    source[:] = np.random.default_rng(2).integers(0, 256, len(source))

    async def move(number: int) -> int:
        part = slice(number << 14, (number + 1) << 14)
        await h2c.submit(source[part], at=number << 14)
        return (await c2h.submit(target[part], at=number << 14)).bytes

    async def all_of_them() -> list[int]:
        return await asyncio.gather(*map(move, range(64)))

    assert sum(asyncio.run(all_of_them())) == 1 << 20
    assert (source == target).all()


@pytest.mark.parametrize("wait", ["poll", "interrupt", "adaptive"])
def test_a_wait_is_over_when_the_transfer_is(wait):
    with jitney.emulate("nitefury", link=2 << 20) as card, card.h2c(wait=wait) as h2c:
        buffer = card.buffer(1 << 14)

        async def one_after_the_other() -> None:
            for _ in range(20):
                assert (await h2c.submit(buffer)).seconds > 0.005

        started = time.monotonic()
        asyncio.run(one_after_the_other())
        # It is also looked at without having been woken, which would be a quarter of a second each time.
        assert time.monotonic() - started < 20 * 0.125


@STREAM
@pytest.mark.parametrize("wait", ["poll", "interrupt", "adaptive"])
def test_a_wait_that_is_cancelled_leaves_the_transfer(board, wait):
    transfer = board.c2h(wait=wait).submit(board.buffer(4096))

    async def give_up() -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        ticking = asyncio.create_task(tick())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(transfer, 0.1)
        # The loop went on with others meanwhile.
        assert ticks > 5
        assert not transfer.done()
        assert transfer.cancel()
        with pytest.raises(jitney.CancelledError):
            await transfer
        ticking.cancel()

    asyncio.run(give_up())


def test_other_threads_run_during_a_wait(board):
    line, heard = board.user_interrupt(0), []
    waiter = threading.Thread(target=lambda: heard.append(line.wait(timeout=60)))
    waiter.start()
    started = time.monotonic()
    board.h2c().write(bytes(100_000))
    assert time.monotonic() - started < 30 and waiter.is_alive()
    board.set_user_interrupt(0, True)
    waiter.join()
    assert heard == [True]


def test_threads_share_a_channel(board):
    h2c, c2h, failures = board.h2c(), board.c2h(), []

    def write(number: int) -> None:
        data = bytes([number]) * 100_000
        try:
            for _ in range(10):
                h2c.write(data, at=number << 20)
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not failures
    got = bytearray(100_000)
    for number in range(4):
        c2h.read(got, at=number << 20)
        assert got == bytes([number]) * 100_000


def test_a_card_is_closed_by_another_thread_during_a_transfer():
    card = jitney.emulate("NiteFury_dma_stream_loopback")
    transfer = card.c2h().submit(card.buffer(4096))
    started, outcome = threading.Event(), []

    def wait() -> None:
        started.set()
        try:
            transfer.wait()
        except jitney.Error as error:
            outcome.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    started.wait()
    card.close()
    waiter.join(60)
    assert not waiter.is_alive() and isinstance(outcome[0], (jitney.CancelledError, jitney.ClosedError))


@STREAM
@pytest.mark.parametrize("closes", ["channel", "card"])
def test_a_blocked_receive_ends_when_its_channel_is_closed(board, closes):
    c2h, started, outcome = board.c2h(), threading.Event(), []

    def receive() -> None:
        started.set()
        try:
            c2h.receive(bytearray(64))
        except jitney.Error as error:
            outcome.append(error)

    receiver = threading.Thread(target=receive, daemon=True)
    receiver.start()
    started.wait()
    until_asleep(os.getpid(), receiver.native_id)
    (c2h if closes == "channel" else board).close()
    receiver.join(20)
    assert not receiver.is_alive() and isinstance(outcome[0], (jitney.CancelledError, jitney.ClosedError))
    if closes == "channel":
        board.c2h()
