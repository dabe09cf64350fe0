"""Reads a ring in shared memory, as docs/ring.md has it, out of a buffer that was attached with `jitney_client`."""

from __future__ import annotations

import time
from typing import Iterator, NamedTuple

from jitney_client import Broker, BrokerError, Buffer


class Block(NamedTuple):
    number: int
    data: bytes
    ends_packet: bool
    before_bytes: int
    before_packets: int


class Ring:
    """`lost` counts the blocks that were overwritten before they were read."""

    def __init__(self, broker: Broker, buffer: Buffer) -> None:
        self.broker, self.buffer = broker, buffer
        # Each number is loaded as a whole, which struct.unpack_from does not promise.
        view = memoryview(buffer.memory)[: buffer.size & ~7]
        self.words, self.halves = view.cast("Q"), view.cast("I")
        magic, version, self.blocks, self.bytes = self.halves[:4]
        if magic != 0x474E524A or version != 1:
            raise BrokerError("unsupported", f"no ring of version 1 is in this buffer: {magic:#x}, version {version}")
        self.first = (64 + 64 * self.blocks + 4095) // 4096 * 4096
        fits = self.first + self.blocks * self.bytes <= buffer.size
        if not 4 <= self.blocks <= 1023 or not self.bytes or self.bytes % 64 or self.bytes > 8 << 20 or not fits:
            raise BrokerError("invalid", f"a ring of {self.blocks} blocks of {self.bytes} bytes is not in this buffer")
        self.next = 0
        self.lost = 0
        self.offer_ended = False

    def published(self) -> int:
        return self.words[3]

    def writer_has_ended(self) -> bool:
        return self.halves[4] == 1

    def blocks_until_end(self) -> Iterator[Block]:
        """Every block, until the writer has ended, or its offer."""
        while True:
            ended = self.writer_has_ended() or self.offer_ended
            if self.next < self.published():
                block = self._take(self.next)
                self.next += 1
                if block is None:
                    self.lost += 1
                else:
                    yield block
            elif ended:
                return
            else:
                # Python has no futex; a program with one waits on the word at 20.
                self._look_for_end()
                time.sleep(0.001)

    def _take(self, number: int) -> Block | None:
        index = number % self.blocks
        record = 8 + 8 * index
        if self.words[record + 1] != number + 1:
            return None
        before_bytes, before_packets = self.words[record + 2], self.words[record + 3]
        size, flags = self.halves[2 * record + 8], self.halves[2 * record + 9]
        if size > self.bytes:
            return None
        at = self.first + index * self.bytes
        data = self.buffer.memory[at:at + size]
        # The copy comes before this load on x86. Where a processor may swap them it takes a fence, which Python has not.
        if self.words[record] != number + 1:
            return None
        return Block(number, data, bool(flags & 1), before_bytes, before_packets)

    def _look_for_end(self) -> None:
        while notice := self.broker.notice(0):
            if notice.name == "OfferEnded" and notice.fields[0] == self.buffer.offer:
                self.offer_ended = True
