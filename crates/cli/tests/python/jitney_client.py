"""A client of jitney's broker, in the standard library of Python 3.9 or newer alone. Copy it, and make of it what you need.

It was written from docs/protocol.md, which says what each request does; this file says only how it is said. One thread uses
a client at a time. Programs that do DMA use a driver; this one gives them cards, memory and turns.
"""

from __future__ import annotations

import collections
import errno
import itertools
import mmap
import os
import select
import socket
import stat
import struct
import time
from typing import Any, Callable, Generic, NamedTuple, Optional, Sequence, TypeVar, Union

T = TypeVar("T")
VERSION = 3
LONGEST = 65536
FOREVER = 2**32 - 1
# Of the names that Linux has for one number, those of its manual pages.
ERRNO = {**errno.errorcode, errno.EAGAIN: "EAGAIN", errno.EDEADLK: "EDEADLK", errno.EOPNOTSUPP: "EOPNOTSUPP"}
KINDS = ("not found", "held", "invalid", "out of bounds", "unsupported", "exhausted", "denied", "link down",
         "disconnected", "timed out", "protocol", "system")


class BrokerError(Exception):
    """What was refused or has failed: `kind` is one of KINDS, `errno` a name such as "EDEADLK" or None."""

    def __init__(self, kind: str, what: str, number: Optional[int] = None, remedy: Optional[str] = None) -> None:
        self.kind, self.what, self.remedy = kind, what, remedy
        self.errno = None if number is None else ERRNO.get(number, f"errno {number}")
        super().__init__(what + (f" ({self.errno})" if self.errno else "") + (f"; {remedy}" if remedy else ""))


# --- The encoding: what postcard makes of numbers, strings, lists and options. ---

def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def text(value: str) -> bytes:
    data = value.encode()
    return varint(len(data)) + data


def option(value: Any, encode: Callable[[Any], bytes]) -> bytes:
    return b"\0" if value is None else b"\1" + encode(value)


class Body:
    """The bytes of a reply or notice, which are read from the front."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        taken = self.data[self.at:self.at + size]
        if len(taken) < size:
            raise BrokerError("protocol", "the broker's message ends in the middle of a field")
        self.at += size
        return taken

    def end(self) -> None:
        if self.at < len(self.data):
            raise BrokerError("protocol", f"{len(self.data) - self.at} bytes of the broker's message are left over")

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise BrokerError("protocol", "a number in the broker's message has no end")

    def signed(self) -> int:
        value = self.number()
        return value >> 1 ^ -(value & 1)

    def text(self) -> str:
        return self.take(self.number()).decode()

    def option(self, read: Callable[[], T]) -> Optional[T]:
        return read() if self.byte() else None

    def list(self, read: Callable[[], T]) -> list[T]:
        return [read() for _ in range(self.number())]


# --- What is said. ---

class Card(NamedTuple):
    id: int
    address: str
    vendor: int
    device: int
    subsystem_vendor: int
    subsystem_device: int
    revision: int
    class_code: int


class Client(NamedTuple):
    """Who uses what, as Usage has it."""
    id: int
    pid: Optional[int]
    uid: int
    program: str
    cards: list[int]
    leases: list[tuple[int, str]]
    waits: list[tuple[int, str, int]]
    buffers: int
    bytes: int


class Tally(NamedTuple):
    card: int
    part: str
    bytes: int
    transfers: int
    failures: int


class Write(NamedTuple):
    """A step of a will."""
    bar: int
    offset: int
    value: int

    def encode(self) -> bytes:
        return b"\0" + bytes([self.bar]) + varint(self.offset) + varint(self.value)


class WaitUntil(NamedTuple):
    """A step of a will."""
    bar: int
    offset: int
    mask: int
    value: int
    milliseconds: int

    def encode(self) -> bytes:
        numbers = (self.offset, self.mask, self.value, self.milliseconds)
        return b"\1" + bytes([self.bar]) + b"".join(map(varint, numbers))


class Notice(NamedTuple):
    """`fields` are as the table of notices has them."""
    name: str
    fields: tuple[Any, ...]


class Buffer:
    """Memory that cards reach at `iova`, and this process by `memory`. `descriptor` is its memfd, which Share needs."""

    def __init__(self, iova: int, size: int, descriptor: int, writable: bool = True, offer: Optional[int] = None) -> None:
        self.iova, self.size, self.descriptor, self.writable, self.offer = iova, size, descriptor, writable, offer
        access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self.memory = mmap.mmap(descriptor, size, mmap.MAP_SHARED, access)

    def close(self) -> None:
        self.memory.close()
        os.close(self.descriptor)


class Tallies:
    """A page to count in what is moved."""

    def __init__(self, descriptor: int) -> None:
        self.page = mmap.mmap(descriptor, 4096, mmap.MAP_SHARED)
        os.close(descriptor)
        # Each number is stored as a whole, which struct.pack_into does not promise.
        self.words = memoryview(self.page).cast("Q")

    def slot(self, index: int, card: int, part: str) -> None:
        at = index * 64
        self.page[at + 8:at + 40] = part.encode().ljust(32, b"\0")
        self.words[at // 8] = card + 1

    def count(self, index: int, size: int, failed: bool = False) -> None:
        word = index * 8
        self.words[word + 5] += size
        self.words[word + (7 if failed else 6)] += 1


class Pending(Generic[T]):
    """A request that is under way; its reply is had by `result`, in whatever order."""

    def __init__(self, broker: Broker, body: bytes, given: list[int], index: int,
                 read: Callable[[Body, list[int]], T]) -> None:
        self.broker, self.body, self.given, self.index, self.read = broker, body, given, index, read
        self.number = broker._send(body, given)

    def result(self, timeout: Optional[float] = None) -> T:
        try:
            body, descriptors = self.broker._reply(self.number, timeout)
        except BrokerError as error:
            if (error.kind, error.errno) != ("system", "EINTR"):
                close_all(self.given)
                raise
            # The broker was started anew just then, and does not know what was asked of it.
            self.number = self.broker._send(self.body, self.given)
            return self.result(timeout)
        close_all(self.given)
        index = body.number()
        if index != self.index:
            close_all(descriptors)
            raise BrokerError("protocol", f"the broker gave reply {index} where {self.index} belongs")
        result = self.read(body, descriptors)
        body.end()
        return result


def close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def one(descriptors: list[int]) -> int:
    if len(descriptors) != 1:
        close_all(descriptors)
        raise BrokerError("protocol", f"the broker's reply came with {len(descriptors)} descriptors, not with one")
    return descriptors[0]


# --- The connection. ---

SYSTEM = "/run/jitney/broker.sock"


def well_known() -> socket.socket:
    """This user's broker, or the system's."""
    runtime = os.environ.get("XDG_RUNTIME_DIR") or ("/run" if os.geteuid() == 0 else f"/run/user/{os.geteuid()}")
    try:
        return connected(f"{runtime}/jitney/broker.sock", trusted=False)
    except (FileNotFoundError, ConnectionRefusedError):
        return connected(SYSTEM, trusted=False)


def connected(path: str, trusted: bool) -> socket.socket:
    own = (0,) if path == SYSTEM else (os.geteuid(), 0)
    if not trusted:
        folder = os.stat(os.path.dirname(path))
        if folder.st_uid not in own or folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise BrokerError("denied", f"somebody else may write to the folder of {path}",
                              remedy="name the broker by JITNEY_BROKER if you trust it")
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(path)
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    uid = struct.unpack("3i", credentials)[1]
    if not trusted and uid not in own:
        connection.close()
        raise BrokerError("denied", f"the broker at {path} belongs to user {uid}",
                          remedy="name it by JITNEY_BROKER if you trust it")
    return connection


def through_door(descriptor: int) -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        door = socket.socket(fileno=descriptor)
        try:
            socket.send_fds(door, [b"j"], [theirs.fileno()])
        finally:
            door.detach()  # It stays open, for children.
    return ours


class Broker:
    """A connection to a broker, which takes back what this process has when it ends."""

    def __init__(self, program: str, path: Optional[str] = None) -> None:
        self.owner = os.getpid()
        self.numbers = itertools.count(1)
        self.notices: collections.deque[Notice] = collections.deque()
        self.pid = self._connect(program, path or os.environ.get("JITNEY_BROKER"))

    def _connect(self, program: str, named: Optional[str]) -> int:
        """Again if the broker hung up before it has said who it is: it was started anew just then."""
        since = time.monotonic()
        while True:
            if named and named.startswith("fd:"):
                self.socket = through_door(int(named[3:]))
            else:
                self.socket = connected(named, trusted=True) if named else well_known()
            self.under_way: set[int] = set()
            self.replies: dict[int, tuple[int, Body, list[int]]] = {}
            self.dropped: Optional[BrokerError] = None
            try:
                return self._ask(0, text(program), 1, lambda body, _: body.number()).result()
            except BrokerError as error:
                self.socket.close()
                if error.kind != "disconnected" or time.monotonic() - since > 10:
                    raise
                time.sleep(0.05)

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Without Goodbye: the broker carries out the wills of leases that are left."""
        for _, _, descriptors in self.replies.values():
            close_all(descriptors)
        self.replies.clear()
        self.socket.close()

    def _do(self, request: int, fields: bytes = b"", descriptors: Sequence[int] = ()) -> None:
        self._ask(request, fields, 0, lambda _body, _given: None, descriptors).result()

    def _ask(self, request: int, fields: bytes, index: int, read: Callable[[Body, list[int]], T],
             descriptors: Sequence[int] = ()) -> Pending[T]:
        # Copies, in case it has to be asked again.
        given = [os.dup(descriptor) for descriptor in descriptors]
        try:
            return Pending(self, varint(request) + fields, given, index, read)
        except BaseException:
            close_all(given)
            raise

    def _send(self, body: bytes, descriptors: Sequence[int]) -> int:
        if self.owner != os.getpid():
            raise BrokerError("invalid", "a forked child uses its parent's connection", remedy="connect again in the child")
        if self.dropped:
            raise self.dropped
        number = next(self.numbers)
        self.under_way.add(number)
        message = struct.pack("<IHHQ", 16 + len(body), VERSION, 0, number) + body
        try:
            socket.send_fds(self.socket, [message], descriptors)
        except (BrokenPipeError, ConnectionResetError):
            while True:  # What it said last may be why; behind that there is the end, which is raised.
                self._hear(None)
        return number

    def _hear(self, timeout: Optional[float]) -> bool:
        """Takes one message, if one comes in time."""
        if not select.select([self.socket], [], [], timeout)[0]:
            return False
        try:
            data, descriptors, _, _ = socket.recv_fds(self.socket, LONGEST, 8, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            data, descriptors = b"", []
        if not data:
            self.dropped = self.dropped or BrokerError("disconnected", "the broker has closed the connection")
            raise self.dropped
        if len(data) < 16:
            raise BrokerError("protocol", "the broker's message is shorter than a header")
        size, version, kind, number = struct.unpack_from("<IHHQ", data)
        if size != len(data) or version != VERSION:
            raise BrokerError("protocol", f"the broker's message has version {version} and size {size}, not "
                                          f"{VERSION} and {len(data)}")
        body = Body(data[16:])
        if kind == 3:
            close_all(descriptors)
            self._notice(body)
        elif number == 0:
            self.dropped = refusal(body)
            raise self.dropped
        elif number in self.under_way:
            self.under_way.remove(number)
            self.replies[number] = (kind, body, descriptors)
        else:
            close_all(descriptors)  # The next broker has said it again.
        return True

    def _notice(self, body: Body) -> None:
        readers: list[tuple[str, Callable[[], tuple[Any, ...]]]] = [
            ("Leaving", lambda: (body.number(),)),
            ("Failed", lambda: (body.number(),)),
            ("Gone", lambda: (body.number(),)),
            ("Came", lambda: (read_card(body),)),
            ("InLine", lambda: (body.number(), body.number(), body.text())),
            ("OfferEnded", lambda: (body.number(),)),
        ]
        index = body.number()
        if index < len(readers):
            name, read = readers[index]
            self.notices.append(Notice(name, read()))

    def _reply(self, number: int, timeout: Optional[float]) -> tuple[Body, list[int]]:
        end = None if timeout is None else time.monotonic() + timeout
        while number not in self.replies:
            left = None if end is None else max(0.0, end - time.monotonic())
            if not self._hear(left):
                raise TimeoutError(f"the broker has not answered request {number} within {timeout} s")
        kind, body, descriptors = self.replies.pop(number)
        if kind == 2:
            close_all(descriptors)
            raise refusal(body)
        return body, descriptors

    def notice(self, timeout: Optional[float] = None) -> Optional[Notice]:
        """The next notice, if one comes in time."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self.notices:
            left = None if end is None else max(0.0, end - time.monotonic())
            if not self._hear(left):
                return None
        return self.notices.popleft()

    # --- Cards. ---

    def cards(self) -> list[Card]:
        return self._pages(1, 2, read_card)

    def _pages(self, request: int, index: int, read: Callable[[Body], Any]) -> list[Any]:
        found: list[Any] = []
        more = True
        while more:
            after = option(found[-1].id if found else None, varint)
            page, more = self._ask(request, after, index, lambda body, _: (
                body.list(lambda: read(body)), bool(body.byte()))).result()
            found += page
        return found

    def open(self, card: int) -> tuple[int, int]:
        """The grant's kind and descriptor; jitney_registers.py is for one of kind 1."""
        return self._ask(2, varint(card), 3, lambda body, given: (body.byte(), one(given))).result()

    def close_card(self, card: int) -> None:
        self._do(3, varint(card))

    def reset(self, card: int) -> None:
        self._do(10, varint(card))

    def wire(self, card: int, vector: int, eventfd: Optional[int] = None) -> int:
        """The eventfd in which the vector is counted, the caller's to close. To make one takes Python 3.10."""
        made = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) if eventfd is None else eventfd
        try:
            self._do(8, varint(card) + varint(vector), [made])
        except BaseException:
            if eventfd is None:
                os.close(made)
            raise
        return made

    def silence(self, card: int, vector: int) -> None:
        self._do(9, varint(card) + varint(vector))

    # --- Turns. ---

    def ask_lease(self, card: int, part: str, shared: bool = False, will: Sequence[Union[Write, WaitUntil]] = (),
                  wait: int = 0) -> Pending[int]:
        """`wait` in milliseconds, or FOREVER. While it stands in line notices say `InLine`."""
        steps = varint(len(will)) + b"".join(step.encode() for step in will)
        fields = varint(card) + text(part) + varint(int(shared)) + steps + varint(wait)
        return self._ask(6, fields, 5, lambda body, _: body.number())

    def lease(self, card: int, part: str, **options: Any) -> int:
        return self.ask_lease(card, part, **options).result()

    def withdraw(self, pending: Pending[int]) -> None:
        self._do(13, varint(pending.number))

    def release(self, card: int, lease: int, will: bool = False) -> None:
        self._do(7, varint(card) + varint(lease) + bytes([will]))

    # --- Memory. ---

    def allocate(self, size: int, card: Optional[int] = None, align: int = 1, top: int = 2**64 - 1,
                 page_shift: int = 12) -> Buffer:
        fields = option(card, varint) + varint(size) + varint(align) + varint(top) + bytes([page_shift])
        return self._ask(4, fields, 4, lambda body, given: Buffer(body.number(), body.number(), one(given))).result()

    def free(self, buffer: Buffer) -> None:
        self._do(5, varint(buffer.iova))
        buffer.close()

    def share(self, buffer: Buffer, name: Optional[str] = None, writable: bool = False) -> bytes:
        """The token by which others attach."""
        fields = varint(buffer.iova) + option(name, text) + bytes([writable])
        return self._ask(14, fields, 7, lambda body, _: body.take(16), [buffer.descriptor]).result()

    def attach(self, offered: Union[str, bytes]) -> Buffer:
        """What is offered by that name, or by that token."""
        fields = b"\0" + offered if isinstance(offered, bytes) else b"\1" + text(offered)

        def read(body: Body, given: list[int]) -> Buffer:
            iova, size, writable, offer = body.number(), body.number(), bool(body.byte()), body.number()
            return Buffer(iova, size, one(given), writable, offer)
        return self._ask(15, fields, 8, read).result()

    def unshare(self, buffer: Buffer) -> None:
        self._do(16, varint(buffer.iova))

    # --- Who uses what. ---

    def usage(self) -> list[Client]:
        def pair(body: Body) -> tuple[int, str]:
            return body.number(), body.text()

        return self._pages(11, 6, lambda body: Client(
            body.number(), body.option(body.number), body.number(), body.text(), body.list(body.number),
            body.list(lambda: pair(body)), body.list(lambda: (*pair(body), body.number())), body.number(), body.number()))

    def tallies(self) -> Tallies:
        return self._ask(17, b"", 9, lambda _, given: Tallies(one(given))).result()

    def traffic(self, client: int) -> list[Tally]:
        return self._ask(18, varint(client), 10, lambda body, _: body.list(lambda: Tally(
            body.number(), body.text(), body.number(), body.number(), body.number()))).result()

    def goodbye(self) -> None:
        self._do(12)
        self.close()


def read_card(body: Body) -> Card:
    return Card(body.number(), body.text(), body.number(), body.number(), body.number(), body.number(), body.byte(),
                body.number())


def refusal(body: Body) -> BrokerError:
    kind = body.number()
    name = KINDS[kind] if kind < len(KINDS) else f"kind {kind}"
    return BrokerError(name, body.text(), body.option(body.signed), body.option(body.text))
