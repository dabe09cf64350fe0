"""DMA memory and arrays of it: who looks at what, and for how long."""

import gc
import subprocess
import threading
import weakref

import numpy as np
import pytest

import jitney


def test_an_array_is_the_memory_itself(board):
    buffer = board.buffer(1 << 16)
    words, octets = buffer.array("<u4"), memoryview(buffer)
    words[1] = 0x11223344
    assert octets[4:8] == b"\x44\x33\x22\x11"
    octets[4] = 0
    assert words[1] == 0x11223300
    assert len(buffer) == buffer.size == 1 << 16 == words.nbytes
    assert np.frombuffer(buffer, "u1").ctypes.data == words.ctypes.data
    # What the card writes is there, without a copy.
    board.h2c().write(b"from the card   ", at=0x1000)
    board.c2h().read(octets[0x100:0x110], at=0x1000)
    assert bytes(words[0x40:0x44]) == b"from the card   "


def test_memory_that_is_looked_at_is_not_freed(board):
    buffer = board.buffer(4096)
    array = buffer.array("u4")
    part = array[10:20]
    del array
    with pytest.raises(BufferError, match="1 array looks"):
        buffer.free()
    with pytest.raises(BufferError), buffer:
        pass
    with pytest.raises(BufferError, match=board.address):
        board.close()
    # Nothing was closed.
    assert not buffer.closed and not board.closed and board.bar(0)[0]
    part[:] = 7
    del part
    buffer.free()
    buffer.free()
    assert buffer.closed
    with pytest.raises((jitney.ClosedError, BufferError)):
        buffer.array()


def test_an_exception_is_not_hidden_by_memory_that_is_looked_at(board):
    with pytest.raises(KeyError), board.buffer(4096) as buffer:
        array = buffer.array()
        raise KeyError
    assert array[0] == 0


@pytest.mark.scenario("freed_in_any_order")
def test_arrays_outlive_the_with_block_of_their_card():
    with jitney.emulate("nitefury") as card:
        array = card.buffer(4096).array("u4")
        array[:] = 42
        card.h2c().write(array, at=0)
    gc.collect()
    assert card.closed and (array == 42).all()
    array[:] = 43


def test_memory_goes_with_its_last_array(board):
    buffer = board.buffer(4096)
    gone = weakref.ref(buffer)
    array = buffer.array()
    del buffer
    gc.collect()
    assert gone() is not None
    del array
    gc.collect()
    assert gone() is None


@pytest.mark.board("NiteFury_dma_stream_loopback")
def test_memory_in_use_by_a_transfer_is_not_freed(board):
    buffer = board.buffer(4096)
    transfer = board.c2h().submit(buffer)
    with pytest.raises(BufferError, match="a transfer still uses"):
        buffer.free()
    assert transfer.cancel() and not buffer.closed
    buffer.free()


def test_parts_of_arrays_are_moved_from_where_they_are(board):
    buffer = board.buffer(1 << 20)
    array = buffer.array("u4")
    array[:] = np.arange(len(array))
    h2c, c2h = board.h2c(), board.c2h()
    assert h2c.write(array[1000:3000], at=0x100).bytes == 8000
    target = board.buffer(8192)
    done = c2h.read(target.array("u4")[:2000], at=0x100)
    assert (target.array("u4")[:2000] == np.arange(1000, 3000)).all() and done.descriptors == 1
    # Several dimensions, as long as they are in one piece.
    assert h2c.write(array.reshape(512, 512)[8:16], at=0).bytes == 8 * 512 * 4
    with pytest.raises(jitney.InvalidError, match="ascontiguousarray"):
        h2c.write(array[::2], at=0)


def test_memory_of_another_card_is_refused(board):
    with jitney.emulate("litefury") as other:
        array = other.buffer(4096).array()
        for foreign in (array, other.buffer(4096), array[100:]):
            with pytest.raises(jitney.InvalidError, match="of another card"):
                board.h2c().write(foreign)


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"size": 0}, jitney.InvalidError),
        ({"size": 4096, "align": 3}, jitney.InvalidError),
        ({"size": 4096, "below": 0}, jitney.InvalidError),
        ({"size": 4096, "pages": "3M"}, jitney.InvalidError),
        ({"size": 1 << 63}, jitney.Error),
        ({"size": -1}, OverflowError),
        ({"size": "much"}, TypeError),
    ],
)
def test_what_cannot_be_had_is_said(board, arguments, kind):
    with pytest.raises(kind):
        board.buffer(**arguments)


def test_where_memory_is_can_be_chosen(board):
    assert board.buffer(4096, below=1 << 32).iova < 1 << 32
    assert board.buffer(4096, align=1 << 20).iova % (1 << 20) == 0


def test_arrays_and_closing_race_without_harm():
    """Whoever comes first wins: either the array is there, and stays, or it is refused."""
    for _ in range(30):
        card = jitney.emulate("nitefury")
        buffers = [card.buffer(1 << 16) for _ in range(20)]
        arrays, refused = [], 0

        def look() -> None:
            nonlocal refused
            for buffer in buffers:
                try:
                    arrays.append(buffer.array())
                except (BufferError, jitney.ClosedError):
                    refused += 1

        looking = threading.Thread(target=look)
        looking.start()
        card.__exit__(None, None, None)
        looking.join()
        assert len(arrays) + refused == len(buffers)
        for array in arrays:
            array[:] = 1


def test_a_bus_of_this_process_goes_with_its_last_card(command, runtime):
    socket = runtime / "board.sock"
    words = [command, "emulate", "nitefury", "--socket", str(socket)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as own:
        assert own.stdout.readline()
        try:
            for _ in range(3):
                bus = jitney.Bus(cards=[f"vfio-user:{socket}"])
                card = bus.open()
                bus.close()
                assert card.bar(0)[0]
                card.close()
        finally:
            own.kill()


@pytest.mark.parametrize("isolate", [False, True])
def test_who_sees_which_memory_of_a_bus(command, runtime, isolate):
    boards = []
    try:
        for name in ("nitefury", "litefury"):
            socket = runtime / f"{name}.sock"
            words = [command, "emulate", name, "--socket", str(socket)]
            boards.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
            assert boards[-1].stdout.readline()
        cards = [f"vfio-user:{runtime / name}.sock" for name in ("nitefury", "litefury")]
        bus = jitney.Bus(cards=cards, isolate=isolate)
        first, second = bus.open("NiteFury"), bus.open("LiteFury")
        with pytest.raises(jitney.NotFoundError, match="there are 2 cards"):
            bus.open()
        own, common = first.buffer(4096), bus.buffer(4096)
        for card, buffer in ((first, own), (first, common), (second, common)):
            card.c2h().read(buffer)
        if isolate:
            with pytest.raises(jitney.InvalidError, match="of another card"):
                second.c2h().read(own)
        else:
            second.c2h().read(own)
    finally:
        for board in boards:
            board.kill()
            board.communicate()
