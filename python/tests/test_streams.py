"""Streams: packets, captures, and rings that other programs read."""

import asyncio
import os
import subprocess
import time

import numpy as np
import pytest

import jitney

LOOPBACK = "NiteFury_dma_stream_loopback"


@pytest.fixture
def streams():
    with jitney.emulate(LOOPBACK) as card:
        if "stream-switch" in card.registers:
            card.routes = list(range(len(card.routes)))
        yield card


@pytest.mark.scenario("stream_packet")
def test_packets_come_back(streams):
    h2c, c2h = streams.h2c(), streams.c2h()
    assert h2c.stream and c2h.stream
    got = bytearray(4096)
    assert c2h.receive(got, timeout=0.01) is None
    for packet in (b"a packet".ljust(64), bytes(range(256)) * 8):
        # A FIFO of a few KiB is between them.
        assert h2c.send(packet).bytes == len(packet)
        done = c2h.receive(got)
        assert done.ends_packet and got[: done.bytes] == packet
    with pytest.raises(jitney.InvalidError, match="stream"):
        c2h.read(got)


def test_packets_are_received_without_a_copy_while_they_are_sent(streams):
    h2c, c2h = streams.h2c(), streams.c2h()
    source, target = streams.buffer(1 << 16).array("u4"), streams.buffer(1 << 16).array("u4")
    source[:] = np.arange(len(source))

    async def both():
        receipts = [c2h.submit(part) for part in np.split(target, 16)]
        await asyncio.gather(*[h2c.submit(part) for part in np.split(source, 16)])
        return await asyncio.gather(*receipts)

    done = asyncio.run(both())
    assert all(own.bytes == 4096 and own.ends_packet for own in done)
    assert (source == target).all()


@pytest.mark.scenario("capture")
@pytest.mark.parametrize("overrun", ["wait", "overwrite"])
def test_a_capture_has_every_block_or_says_what_is_lost(streams, overrun):
    h2c = streams.h2c()
    with streams.c2h().capture(16, 4096, overrun=overrun) as capture:
        assert capture.read(timeout=0.01) is None
        for number in range(100):
            h2c.send(bytes([number]) * 4096)
            block = capture.read()
            assert block.data == bytes([number]) * 4096 and block.ends_packet
            assert (block.number, block.lost, len(block)) == (number, 0, 4096)
        assert capture.lost == 0
        if overrun == "overwrite":
            for number in range(64):
                h2c.send(bytes([number]) * 4096)
            # What was sent last arrives some time after it was sent.
            blocks = []
            while not blocks or blocks[-1].number < 163:
                blocks.append(next(capture))
            assert blocks[-1].data[0] == 63
            assert sum(own.lost for own in blocks) == capture.lost == 64 - len(blocks) > 0
    with pytest.raises(jitney.ClosedError):
        capture.read()
    # The channel is free again.
    streams.c2h()


def test_a_channel_is_its_captures(streams):
    c2h = streams.c2h()
    with c2h.capture():
        assert c2h.closed
        with pytest.raises(jitney.HeldError):
            streams.c2h()


WRITER = """
    import sys, jitney
    card = jitney.open()
    if "stream-switch" in card.registers:
        card.routes = list(range(len(card.routes)))
    h2c = card.h2c()
    print("ready")
    for number in range(int(sys.argv[1])):
        h2c.send(number.to_bytes(4, "little") * 1024)
"""


@pytest.mark.scenario("ring_read")
def test_a_ring_is_read_until_its_writer_ends(broker, program, command, runtime):
    socket = broker("--emulate", LOOPBACK)
    environment = {**os.environ, "JITNEY_BROKER": str(socket), "XDG_RUNTIME_DIR": str(runtime)}
    arguments = ["--share", "samples", "--block", "4096", "--blocks", "256", "--packets", "200"]
    with jitney.Bus(broker=socket) as bus:
        card = bus.cards()[0].address
        capture = subprocess.Popen([command, "capture", card, *arguments], env=environment)
        try:
            end = time.monotonic() + 60
            while True:
                try:
                    ring = bus.ring("samples")
                    break
                except jitney.NotFoundError:
                    assert capture.poll() is None and time.monotonic() < end
                    time.sleep(0.02)
            assert ring.read(timeout=0.01) is None and ring.ended is None
            sender = program(WRITER, "200", broker=socket)
            assert sender.hears() == "ready"
            blocks = list(ring)
            assert capture.wait(60) == 0
            sender.ends()
        finally:
            capture.kill()
            capture.wait()
    assert ring.ended is not None and ring.lost == 0
    assert [block.data[:4] for block in blocks] == [number.to_bytes(4, "little") for number in range(200)]
