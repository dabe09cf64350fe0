"""Registers by a grant of kind 1, which is a connection to a vfio-user server: as much of that protocol as they take."""

from __future__ import annotations

import itertools
import socket
import struct

from jitney_client import BrokerError


class Registers:
    CONFIG = 7

    def __init__(self, descriptor: int) -> None:
        self.socket = socket.socket(fileno=descriptor)
        self.ids = itertools.count(1)
        major, _minor = struct.unpack_from("<HH", self._ask(1, struct.pack("<HH", 0, 1) + b'{"capabilities":{}}\0'))
        if major != 0:
            raise BrokerError("unsupported", f"the card's server speaks version {major} of vfio-user, not 0")

    def close(self) -> None:
        self.socket.close()

    def _take(self, size: int) -> bytes:
        taken = b""
        while len(taken) < size:
            more = self.socket.recv(size - len(taken))
            if not more:
                raise BrokerError("disconnected", "the card's server has closed the connection")
            taken += more
        return taken

    def _ask(self, command: int, body: bytes) -> bytes:
        number = next(self.ids) & 0xFFFF
        self.socket.sendall(struct.pack("<HHIII", number, command, 16 + len(body), 0, 0) + body)
        answered, said, size, flags, code = struct.unpack("<HHIII", self._take(16))
        reply = self._take(size - 16)
        if (answered, said, flags & 0xF) != (number, command, 1):
            raise BrokerError("protocol", f"the card's server answered {answered}/{said} to {number}/{command}")
        if flags & 0x20:
            raise BrokerError("system", f"the card's server refuses command {command}", code)
        return reply

    def read(self, region: int, offset: int, size: int = 4) -> int:
        """A register of BAR `region`, or of configuration space (CONFIG)."""
        reply = self._ask(9, struct.pack("<QII", offset, region, size))
        return int.from_bytes(reply[16:16 + size], "little")

    def write(self, region: int, offset: int, value: int, size: int = 4) -> None:
        self._ask(10, struct.pack("<QII", offset, region, size) + value.to_bytes(size, "little"))
