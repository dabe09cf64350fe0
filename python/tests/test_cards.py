"""Cards, BARs and registers, boards and sensors, on emulated boards in this process."""

import pickle

import numpy as np
import pytest

import jitney


@pytest.mark.scenario("identify_a_board")
def test_a_card_says_who_it_is(board):
    assert (board.vendor, board.device) == (0x10EE, 0x7011)
    assert board.board.name == "NiteFury"
    assert board.board.design in [design.name for design in jitney.boards()]
    assert [memory.size for memory in board.board.memories] == [1 << 30]
    assert board.bars == {0: 0x20000, 2: 0x10000}
    assert [channel.name for channel in board.channels] == ["h2c0", "c2h0"]
    assert "NiteFury" in repr(board.board) and board.address in repr(board.bar(0))


@pytest.mark.scenario("emulated_in_process")
@pytest.mark.board("litefury")
def test_a_test_gets_the_board_that_it_asks_for(board):
    assert board.board.name == "LiteFury"


@pytest.mark.scenario("register_by_name")
def test_registers_are_read_and_written_by_offset_and_by_name(board):
    bar = board.bar(0)
    assert bar[0] == int.from_bytes(b"NITE", "big") == bar.read(0)
    gpio = board.registers["axi-gpio2"]
    gpio[4] = np.uint32(0b101)  # which pins are inputs
    assert gpio[4] == 0b101
    assert gpio[0:16] == [gpio[offset] for offset in (0, 4, 8, 12)]
    xdma = board.registers["xdma"]
    assert xdma["h2c0.identifier"] >> 20 == 0x1FC
    assert xdma["h2c0.identifier"] == board.bar(2)[0]
    assert "irq.user_enable" in xdma.names
    assert board.config.read(0, bits=16) == 0x10EE
    assert set(jitney.boards()[0].peripherals) <= set(board.registers)


@pytest.mark.scenario("register_out_of_range")
@pytest.mark.parametrize("wrong", [-4, 1 << 40, 1 << 70, 0x1FFFE])
def test_an_offset_that_is_none_is_an_index_error(board, wrong):
    for access in (lambda: board.bar(0)[wrong], lambda: board.bar(0).write(wrong, 1)):
        with pytest.raises((jitney.OutOfBoundsError, jitney.InvalidError)):
            access()


@pytest.mark.parametrize("wrong", [-1, 1 << 32, 1 << 100])
def test_a_value_that_is_none_is_refused_and_nothing_is_written(board, wrong):
    gpio = board.registers["axi-gpio2"]
    gpio[4] = 5
    with pytest.raises(jitney.InvalidError, match="32 bits"):
        gpio[4] = wrong
    assert gpio[4] == 5


def test_what_is_no_number_is_a_type_error(board):
    bar = board.bar(0)
    for wrong in (1.5, None, b"x", [0]):
        with pytest.raises(TypeError):
            bar[wrong]
    for wrong in (1.5, None, "1"):
        with pytest.raises((TypeError, AttributeError)):
            bar[0] = wrong
    with pytest.raises(jitney.InvalidError, match="12 bits"):
        bar.read(0, bits=12)


def test_names_that_are_none_say_what_there_is(board):
    with pytest.raises(jitney.NotFoundError, match="h2c0.control"):
        board.registers["xdma"]["h2c0.contrl"]
    with pytest.raises(jitney.NotFoundError, match="has no BAR 1; it has BAR 0, 2"):
        board.bar(1)
    with pytest.raises(jitney.NotFoundError, match="did you mean 'nitefury'"):
        jitney.emulate("nitefurry")
    with pytest.raises(jitney.NotFoundError, match="no channel"):
        board.h2c(3)


@pytest.mark.scenario("sensor")
def test_sensors_are_read(board):
    readings = {reading.name: reading for reading in board.sensors()}
    temperature = readings["temperature"]
    assert 10 < temperature.now < 100 and temperature.unit == "°C" and temperature.monitor == "xadc"
    assert 0.9 < readings["VCCINT"].now < 1.1


def test_a_board_of_a_file_of_ones_own(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        """
        [[design]]
        name = "my_filter"
        board = "NiteFury"
        pci = ["10ee:7024"]
        subsystem = "1234:0001"
        dma = { ip = "xdma", bar = 2, h2c = 1, c2h = 1, interface = "memory-mapped", width = 128 }
        memory = { kind = "block-ram", base = 0, size = 0x4_0000 }
        peripherals = [
          { name = "filter", kind = "other", bar = 0, offset = 0x2000, size = 0x100, words = [0x46494c54] },
        ]
        """
    )
    with jitney.emulate(file=file) as card:
        assert card.board.design == "my_filter"
        assert card.registers["filter"][0] == card.bar(0)[0x2000] == 0x46494C54
        with pytest.raises(jitney.OutOfBoundsError, match="filter"):
            card.registers["filter"][0x100]
        card.h2c().write(b"0123", at=0x3FFFC)


def test_a_closed_card_refuses_all_that_was_made_of_it():
    card = jitney.emulate("nitefury")
    bar, buffer, h2c, lease = card.bar(0), card.buffer(4096), card.h2c(), card.lease("filter")
    card.close()
    card.close()
    assert card.closed and h2c.closed and buffer.closed and lease.closed
    for use in (
        lambda: card.address,
        lambda: card.bar(0),
        lambda: card.registers,
        lambda: bar[0],
        lambda: memoryview(buffer),
        lambda: h2c.write(b"x"),
        lambda: card.reset(),
        lambda: card.sensors(),
        lambda: card.inject("hang"),
    ):
        with pytest.raises((jitney.ClosedError, BufferError), match="is closed"):
            use()
    assert "closed" in repr(card) + repr(buffer)


@pytest.mark.scenario("error_has_errno_and_remedy")
def test_errors_keep_what_they_know_when_they_are_sent(board):
    with pytest.raises(jitney.Error) as caught:
        jitney.Bus(broker="/nowhere/at/all.sock")
    error = pickle.loads(pickle.dumps(caught.value))
    assert type(error) is type(caught.value) and str(error) == str(caught.value)
    assert (error.errno, error.remedy) == (caught.value.errno, caught.value.remedy)
    assert error.errno == 2 and "jitney broker" in error.remedy
