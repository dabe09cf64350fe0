"""What a client in another language goes through with a real broker. $JITNEY names the command.

crates/cli/tests/end_to_end/python_client.rs runs it, one class at a time."""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import subprocess
import sys
import unittest
from typing import Any, Iterator
from unittest import mock

from jitney_client import FOREVER, Broker, BrokerError, Card, Pending, WaitUntil, Write
from jitney_registers import Registers
from jitney_ring import Ring

JITNEY = os.environ["JITNEY"]
NITEFURY = (0x10EE, 0x7011)
STREAMS = (0x10EE, 0x7024)
# Where the boards of these tests have their XDMA, and what its first channel to the card says it is (PG195).
XDMA_BAR = 2
H2C0_IDENTIFIER = 0x1FC00


def attach_in_vain(name: str) -> None:
    """Runs in a process of its own: reads what the parent shares, and fails to write to it."""
    with Broker("the reader") as broker:
        buffer = broker.attach(name)
        assert not buffer.writable
        assert buffer.memory[:6] == b"shared", buffer.memory[:6]
        for path in (None, f"/proc/self/fd/{buffer.descriptor}"):
            try:
                descriptor = buffer.descriptor if path is None else os.open(path, os.O_RDWR)
                mmap.mmap(descriptor, buffer.size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            except PermissionError:
                continue
            raise AssertionError(f"it can be written to by {path or 'what the broker gave'}")
        print("read", flush=True)
        # The parent ends its offer, which is heard here; the memory stays.
        notice = broker.notice()
        assert notice is not None and (notice.name, notice.fields) == ("OfferEnded", (buffer.offer,)), notice
        assert buffer.memory[:6] == b"shared"
        broker.free(buffer)
        broker.goodbye()


class Scenario(unittest.TestCase):
    def setUp(self) -> None:
        self.broker = Broker(f"scenario {self.id()}")
        self.addCleanup(self.broker.close)

    def card(self, ids: tuple[int, int] = NITEFURY) -> Card:
        (card,) = (card for card in self.broker.cards() if (card.vendor, card.device) == ids)
        return card

    def opened(self) -> tuple[int, Registers]:
        card = self.card().id
        kind, grant = self.broker.open(card)
        self.assertEqual(kind, 1)
        registers = Registers(grant)
        self.addCleanup(registers.close)
        return card, registers

    @contextlib.contextmanager
    def refused(self, kind: str, words: str = "", number: str | None = None) -> Iterator[None]:
        with self.assertRaises(BrokerError) as caught:
            yield
        error = caught.exception
        self.assertEqual(error.kind, kind, error)
        self.assertIn(words, error.what)
        if number is not None:
            self.assertEqual(error.errno, number, error)

    def own(self) -> Any:
        program = f"scenario {self.id()}"
        (own,) = (client for client in self.broker.usage() if client.program == program)
        return own


class OnABoard(Scenario):
    """The broker is at the well-known place."""

    def test_a_card_is_identified_and_its_registers_are_read(self) -> None:
        card, registers = self.opened()
        identity = registers.read(Registers.CONFIG, 0)
        self.assertEqual((identity & 0xFFFF, identity >> 16), NITEFURY)
        self.assertEqual(registers.read(XDMA_BAR, 0) >> 12, H2C0_IDENTIFIER)
        registers.close()
        self.broker.close_card(card)
        self.broker.goodbye()

    def test_memory_is_allocated_and_freed(self) -> None:
        card, _ = self.opened()
        buffer = self.broker.allocate(5000, card, align=1 << 16)
        self.assertEqual((buffer.size, buffer.iova % (1 << 16)), (8192, 0))
        buffer.memory[8190:] = b"ok"
        self.assertEqual((self.own().buffers, self.own().bytes), (1, 8192))
        self.broker.free(buffer)
        self.assertEqual(self.own().buffers, 0)
        with self.refused("invalid"):
            self.broker.allocate(4096, card, align=3)
        with self.refused("not found"):
            self.broker.open(card + 1000)

    def test_turns_are_waited_for_behind_another_program(self) -> None:
        card, _ = self.opened()
        holder = subprocess.Popen(
            [JITNEY, "lease", "10ee:7011", "h2c0", "--", "sh", "-c", "echo it runs; read line"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.addCleanup(holder.communicate)
        assert holder.stdin and holder.stdout
        while "it runs" not in holder.stdout.readline():
            self.assertIsNone(holder.poll())
        with self.refused("held", "h2c0"):
            self.broker.lease(card, "h2c0")
        first, second = (self.broker.ask_lease(card, "h2c0", wait=FOREVER) for _ in range(2))
        # Nobody waits for oneself: both are next.
        for pending in (first, second):
            place, behind = self.in_line(pending)
            self.assertEqual(place, 1)
            self.assertIn("h2c0 is held by pid", behind)
        self.assertEqual(self.own().waits, [(card, "h2c0", 1)] * 2)
        # Somebody who has no patience is told for whom it has waited.
        with self.refused("timed out", "h2c0 is held by pid"):
            self.broker.lease(card, "h2c0", wait=1)
        self.broker.withdraw(second)
        with self.refused("timed out"):
            second.result(0)
        holder.stdin.write("go on\n")
        holder.stdin.flush()
        lease = first.result()
        self.assertEqual(self.own().leases, [(card, "h2c0")])
        # One that would wait for itself.
        with self.refused("held", number="EDEADLK"):
            self.broker.lease(card, "whole", wait=FOREVER)
        self.broker.release(card, lease)

    def in_line(self, pending: Pending[int]) -> tuple[int, str]:
        while True:
            notice = self.broker.notice()
            assert notice is not None
            if notice.name == "InLine" and notice.fields[0] == pending.number:
                return notice.fields[1], notice.fields[2]

    def test_a_will_is_carried_out(self) -> None:
        card, registers = self.opened()
        # The address of the first channel's descriptors may be written to at any time.
        low = 0x4080
        registers.write(XDMA_BAR, low, 0)
        will = (Write(XDMA_BAR, low, 0x1240), WaitUntil(XDMA_BAR, low, 0xFFFF_FFFF, 0x1240, 100))
        lease = self.broker.lease(card, "h2c0", will=will)
        self.broker.release(card, lease, will=True)
        self.assertEqual(registers.read(XDMA_BAR, low), 0x1240)

    def test_a_vector_is_wired_silenced_and_reset(self) -> None:
        card, _ = self.opened()
        event = eventfd()
        self.addCleanup(os.close, event)
        with self.refused("invalid"):
            self.broker.wire(card, 0, event)
        lease = self.broker.lease(card, "irq0")
        self.broker.wire(card, 0, event)
        self.broker.silence(card, 0)
        self.broker.release(card, lease)
        self.broker.reset(card)

    def test_a_buffer_is_shared_for_reading_with_another_process(self) -> None:
        buffer = self.broker.allocate(1 << 16)
        buffer.memory[:6] = b"shared"
        token = self.broker.share(buffer, "frames")
        self.assertEqual(len(token), 16)
        with self.refused("held", "frames"):
            self.broker.share(self.broker.allocate(4096), "frames")
        reader = subprocess.Popen([sys.executable, __file__, "--attach", "frames"], stdout=subprocess.PIPE, text=True)
        assert reader.stdout
        self.assertEqual(reader.stdout.readline(), "read\n")
        # The maker has no new mapping to write to either; the one it has goes on.
        with self.assertRaises(PermissionError):
            mmap.mmap(buffer.descriptor, buffer.size, mmap.MAP_SHARED)
        buffer.memory[6:9] = b"!!!"
        self.broker.unshare(buffer)
        reader.communicate()
        self.assertEqual(reader.returncode, 0)
        for gone in ("frames", token):
            with self.refused("not found"):
                self.broker.attach(gone)

    def test_what_is_counted_is_seen(self) -> None:
        card, _ = self.opened()
        tallies = self.broker.tallies()
        tallies.slot(0, card, "h2c0")
        tallies.count(0, 12345)
        tallies.count(0, 0, failed=True)
        with Broker("who watches") as other:
            self.assertEqual(other.traffic(self.own().id), [(card, "h2c0", 12345, 1, 1)])
            with self.refused("not found"):
                other.traffic(self.own().id + 1000)
        with self.refused("invalid"):
            self.broker.tallies()

    def test_a_stranger_may_not_write_to_the_folder(self) -> None:
        folder = os.path.join(os.environ["XDG_RUNTIME_DIR"], "jitney")
        before = os.stat(folder).st_mode & 0o7777
        os.chmod(folder, 0o777)
        try:
            with self.refused("denied", "somebody else may write"):
                Broker("a careful client")
            # Who was told by name has decided.
            Broker("a client that was told", os.path.join(folder, "broker.sock")).goodbye()
        finally:
            os.chmod(folder, before)

    def test_nonsense_is_answered_in_words(self) -> None:
        with self.refused("invalid"):
            self.broker._do(6, b"\xff")
        self.assertTrue(self.broker.cards())
        self.broker.socket.send(struct.pack("<IHHQ", 16, 77, 0, 9))
        with self.refused("protocol"):
            self.broker.notice()
        with self.refused("protocol"):
            self.broker.cards()

    def test_a_forked_child_is_told_to_connect_by_itself(self) -> None:
        with mock.patch("os.getpid", return_value=1), self.refused("invalid", "forked"):
            self.broker.cards()


def eventfd() -> int:
    """An eventfd; Python before 3.10 has no way to one."""
    if hasattr(os, "eventfd"):
        return os.eventfd(0, os.EFD_CLOEXEC)
    import ctypes
    return int(ctypes.CDLL(None).eventfd(0, 0o2000000))


class ThroughTheDoor(Scenario):
    """`jitney run` has started this: JITNEY_BROKER is fd:3."""

    def test_a_program_and_its_children_come_in(self) -> None:
        self.assertEqual(os.environ["JITNEY_BROKER"], "fd:3")
        self.assertEqual(self.card().vendor, NITEFURY[0])
        code = "import jitney_client; b = jitney_client.Broker('a child'); b.cards(); b.goodbye()"
        folder = os.path.dirname(os.path.abspath(__file__))
        subprocess.run([sys.executable, "-c", code], cwd=folder, pass_fds=[3], check=True)


class OfAStream(Scenario):
    """Somebody plays the file $SENT, $PACKETS packets of $BYTES bytes, into a capture that is shared as `adc`."""

    def test_a_capture_is_read_as_a_ring(self) -> None:
        packets, size = int(os.environ["PACKETS"]), int(os.environ["BYTES"])
        buffer = self.broker.attach("adc")
        ring = Ring(self.broker, buffer)
        print("attached", flush=True)
        seen = 0
        with open(os.environ["SENT"], "rb") as sent:
            for block in ring.blocks_until_end():
                self.assertEqual((block.number, block.before_bytes, block.before_packets), (seen, seen * size, seen))
                self.assertTrue(block.ends_packet)
                self.assertEqual(block.data, sent.read(size))
                seen += 1
        self.assertEqual((seen, ring.lost, ring.writer_has_ended()), (packets, 0, True))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--attach"]:
        attach_in_vain(sys.argv[2])
    else:
        unittest.main(verbosity=2)
