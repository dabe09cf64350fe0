"""Every name of jitney, with what it does, its units and its errors.

Any of it can raise ``jitney.Error`` or one of its kinds, ``ClosedError`` after a close, and ``ForkedError`` in a process that was
forked from the one in which the object was made. What waits lets other threads run, and ends at once with ``KeyboardInterrupt`` when
Ctrl-C is pressed. Times are in seconds; a time-out of None is for ever. What has ``close()`` is given back by it, by a ``with``
block, or when the last reference is gone.
"""

from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from os import PathLike
from types import TracebackType
from typing import Any, Final, Literal, Self, SupportsIndex, TypeAlias, final, overload

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer as _HasBuffer, disjoint_base

# Arrays have the buffer protocol for type checkers only from Python 3.12 on.
_Bytes: TypeAlias = _HasBuffer | npt.NDArray[Any]
# One piece, or several of DMA memory.
_Data: TypeAlias = "Buffer | _Bytes | Sequence[Buffer | _Bytes | tuple[Buffer | _Bytes, int]]"

__version__: Final[str]

def open(
    selector: str | None = None,
    *,
    board: str | None = None,
    serial: int | str | None = None,
    dna: str | None = None,
    where: Callable[[Card], object] | None = None,
) -> Card:
    """Opens the card for which all is true that is said; if nothing is, the only one there is.

    ``selector`` is what the command takes as ``CARD``: an address (``0000:2e:00.0``), ``vendor:device`` (``10ee:7011``), the name of
    a board or design (``NiteFury``), ``serial:NUMBER`` or ``dna:NUMBER``. ``serial`` is as :attr:`Card.serial`, ``dna`` one of
    :attr:`Card.dna`. ``where`` is given each card that may be it, open for that moment, and says by what it returns whether it is.
    :class:`NotFoundError` if no card fits or several do: it names them.

    By the broker that this program was started under or that runs for its user, else this process owns the cards that it can have,
    for as long as one of them is open. To say which, there is :class:`Bus`.
    """

def cards() -> list[CardInfo]:
    """The cards that :func:`open` could open."""

def boards() -> list[Design]:
    """The designs of the catalogue, the user's boards files included."""

def emulate(
    board: str | None = None,
    *,
    file: str | PathLike[str] | None = None,
    memory: int | None = None,
    channels: int | None = None,
    interrupts: Literal["msix", "msi", "intx", "none"] | None = None,
    link: int | str | None = None,
    flash: str | PathLike[str] | None = None,
    faults: Sequence[str] = ...,
) -> EmulatedCard:
    """Starts an emulated board in this process, and opens its card; both end when it is closed.

    ``board`` is a name of the catalogue, or of a design in the boards file ``file``. ``memory`` is in bytes, ``channels`` in each
    direction; ``link`` is what its link carries, in bytes a second or as ``gen2x4``; ``flash`` is a file that keeps the flash's bytes; ``faults`` are as of ``jitney emulate --fault``.
    """

@final
class Bus:
    """The cards that a program can use, whoever owns them.

    With ``broker`` those of the broker at that socket; with ``cards`` (addresses) this process owns those; with neither as
    :func:`open`. ``wait`` is how long to stand in line for what another program holds. With ``isolate`` a card of this process
    does not reach what other cards' ``buffer()`` made.
    """

    def __new__(
        cls,
        broker: str | PathLike[str] | None = None,
        *,
        cards: Sequence[str] | None = None,
        wait: float | None = None,
        isolate: bool = False,
    ) -> Self: ...
    def cards(self) -> list[CardInfo]:
        """The cards that can be opened."""

    def open(
        self,
        selector: str | None = None,
        *,
        board: str | None = None,
        serial: int | str | None = None,
        dna: str | None = None,
        where: Callable[[Card], object] | None = None,
    ) -> Card:
        """Opens a card, chosen as by :func:`jitney.open`."""

    def buffer(
        self,
        size: int,
        *,
        align: int = 1,
        below: int | None = None,
        pages: Literal["4K", "2M", "1G"] = "4K",
    ) -> Buffer:
        """Memory that every card of the bus sees; as :meth:`Card.buffer`."""

    def share(self, buffer: Buffer, *, name: str | None = None, writable: bool = False) -> str:
        """Offers a buffer to other programs at the broker, and returns the token by which they attach to it. Those of the same user
        can do it by ``name``, too. To be read, unless it is ``writable``."""

    def unshare(self, buffer: Buffer) -> None:
        """Ends an offer; who has attached keeps the buffer."""

    def attach(self, name: str | None = None, *, token: str | None = None) -> Buffer:
        """A buffer that another program offers to writers: the same memory at the same IOVA."""

    def ring(self, name: str | None = None, *, token: str | None = None) -> Ring:
        """A stream that another program captures into a ring that it offers (``jitney capture --share NAME``)."""

    def watch(self) -> Watch:
        """Hears of cards that arrive and leave from now on, and first of what has changed since the bus was opened. A bus of a broker
        has what has arrived; alone, a bus keeps the cards that it was opened with: ``jitney.Bus(cards=[address])`` opens the other."""

    @property
    def broker(self) -> int | None:
        """Process id of the broker that owns the cards; None if this process does."""

    def usage(self) -> list[Usage]:
        """Who uses what, as the broker knows; empty without one."""

    def close(self) -> None:
        """Lets go of the bus; cards and buffers of it stay open."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@disjoint_base
class Card:
    """A card that is open.

    At the end of a ``with`` block all that was made of it ends too; only DMA memory that an array looks at stays, until the last
    such array is gone.
    """

    @property
    def address(self) -> str:
        """Where it was found: ``0000:2e:00.0``."""

    @property
    def vendor(self) -> int:
        """PCI vendor id."""

    @property
    def device(self) -> int:
        """PCI device id."""

    @property
    def revision(self) -> int:
        """PCI revision id."""

    @property
    def serial(self) -> str | None:
        """Its device serial number, as ``00-00-00-01-01-00-0a-35``; None if it has none. Cards with the same FPGA design mostly
        share it."""

    @property
    def dna(self) -> list[str]:
        """The numbers of its FPGA, 24 hexadecimal digits each, that no other has; empty if its design does not show them."""

    @property
    def board(self) -> Board:
        """Which board it is. :class:`NotFoundError` if no design of the catalogue has its ids."""

    @property
    def bars(self) -> dict[int, int]:
        """The BARs that it has: number, and size in bytes."""

    def bar(self, index: int) -> Registers:
        """The registers of a BAR."""

    @property
    def config(self) -> Registers:
        """PCI configuration space."""

    @property
    def registers(self) -> dict[str, Registers]:
        """The registers of what has a name in the board's design, and ``xdma``."""

    def buffer(
        self,
        size: int,
        *,
        align: int = 1,
        below: int | None = None,
        pages: Literal["4K", "2M", "1G"] = "4K",
    ) -> Buffer:
        """Memory of at least ``size`` bytes that this process and the card see.

        Its IOVA is a multiple of ``align``; all of it is below the address ``below``, for cards with few address bits; huge
        ``pages`` have to be reserved.
        """

    @property
    def channels(self) -> list[ChannelInfo]:
        """The channels of its XDMA."""

    def h2c(
        self,
        index: int = 0,
        *,
        wait: Literal["poll", "interrupt", "adaptive"] = "poll",
        timeout: float | None = None,
        depth: int | None = None,
        align: int | None = None,
        longest: int | None = None,
    ) -> H2c:
        """A channel of its XDMA to the card. :class:`HeldError` if another program has it.

        Who waits for a transfer looks at memory (``poll``), sleeps until the interrupt, or does one and then the other
        (``adaptive``). A transfer fails if nothing happens for ``timeout`` (10 s). The engine has ``depth`` descriptors at once
        (125), each but the last a multiple of ``align`` bytes and of at most ``longest``.
        """

    def c2h(
        self,
        index: int = 0,
        *,
        wait: Literal["poll", "interrupt", "adaptive"] = "poll",
        timeout: float | None = None,
        depth: int | None = None,
        align: int | None = None,
        longest: int | None = None,
    ) -> C2h:
        """A channel of its XDMA from the card; else as :meth:`h2c`. A stream has no ``timeout`` of itself."""

    def user_interrupt(self, line: int) -> UserInterrupt:
        """An interrupt line of the design's own logic."""

    @property
    def vectors(self) -> int:
        """How many interrupt vectors it has."""

    def interrupt(self, vector: int) -> Interrupt:
        """An interrupt vector of a card that has no XDMA, or whose XDMA is driven otherwise."""

    def lease(self, part: str, *, shared: bool = False, wait: float | None = ...) -> Lease:
        """A right on a named part of the card, alone or ``shared`` with others who share. Stands in line for ``wait``, for ever if it
        is None; without it as its bus was told to, which is not at all if nobody has. :class:`HeldError` says who has it."""

    def sensors(self) -> list[Reading]:
        """What its sensors say. Nobody is disturbed by it."""

    def flash(self) -> Flash:
        """Its configuration flash; nobody else has the bus meanwhile."""

    @property
    def routes(self) -> list[int | None]:
        """The routes of its AXI4-Stream switch: of each output the input, or None."""

    @routes.setter
    def routes(self, routes: Sequence[int | None]) -> None: ...
    def reset(self) -> None:
        """Resets the card. :class:`HeldError` while anybody uses a part of it, this program too."""

    @property
    def closed(self) -> bool:
        """Whether it was closed."""

    def close(self) -> None:
        """Ends all that was made of the card, and lets go of it. BufferError while an array looks at its memory."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class EmulatedCard(Card):
    """The card of an emulated board in this process."""

    def set_user_interrupt(self, line: int, level: bool) -> None:
        """Sets the level of an interrupt line of the design's own, as its logic would."""

    def inject(self, name: str) -> None:
        """Has a fault happen, as ``data-fault:h2c0@1``: ``jitney emulate --help`` has the names."""

@final
class Registers:
    """32-bit registers, by their offset in bytes or, of an XDMA, by name: ``registers[0x1000]``, ``registers["h2c0.control"]``.

    ``registers[0:0x20]`` reads all of that range. A register that reads as 0xffffffff usually means that the link is down.
    """

    @property
    def name(self) -> str:
        """Which registers of which card they are."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def names(self) -> list[str]:
        """The names of single registers, where they are known."""

    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, key: SupportsIndex | str, /) -> int: ...
    @overload
    def __getitem__(self, key: slice, /) -> list[int]: ...
    def __setitem__(self, key: SupportsIndex | str, new: SupportsIndex, /) -> None: ...
    def read(self, offset: SupportsIndex | str, bits: Literal[8, 16, 32, 64] = 32) -> int:
        """Reads a register of another width. One of 64 bits is two reads of 32, low word first."""

    def write(self, offset: SupportsIndex | str, new: SupportsIndex, bits: Literal[8, 16, 32, 64] = 32) -> None:
        """Writes a register of another width."""

@final
class Buffer:
    """Memory that this process and a card see, the card at :attr:`iova`.

    It has the buffer protocol: ``memoryview(buffer)``, ``numpy.frombuffer(buffer, "u4")`` and their like look at the memory itself.
    **The card writes there whenever it was told to**, between any two instructions of the program: read what it has written
    after the transfer has ended, and write nothing that it still reads.
    """

    @property
    def iova(self) -> int:
        """Where cards see its first byte."""

    @property
    def size(self) -> int:
        """Bytes, whole pages."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def array(self, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
        """All of it as a NumPy array of one dimension, bytes if no type is given; without a copy."""

    @property
    def closed(self) -> bool:
        """Whether it was given back."""

    def free(self) -> None:
        """Gives it back, and waits until no card reaches it any more. BufferError while an array or a transfer has it."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class H2c:
    """A DMA channel to the card, this program's until it is closed. Any thread may use it.

    What is moved is a :class:`Buffer`, an array that looks at one, or a part of it: then nothing is copied. Anything else with the
    buffer protocol (``bytes``, other arrays) is copied through memory of the channel's own.

    A list of such pieces of DMA memory is one transfer. In the card's memory they lie one behind the other, from ``at`` on; a pair
    ``(piece, address)`` has an address of its own. To a stream they are one packet.
    """

    @property
    def name(self) -> str:
        """``h2c0``."""

    @property
    def stream(self) -> bool:
        """Whether it has a stream on the card's side, not memory."""

    def write(self, data: _Data, at: int = 0) -> Completed:
        """Writes to the card's memory from address ``at`` on, and waits until it is done; cancelled by Ctrl-C."""

    def send(self, packet: _Data) -> Completed:
        """Sends a packet of a stream, and waits until the card has taken it."""

    def submit(self, data: _Data, at: int = 0) -> Transfer:
        """Starts to move DMA memory, and does not wait. Transfers of a channel are carried out in order."""

    @property
    def closed(self) -> bool:
        """Whether it was given back."""

    def close(self) -> None:
        """Stops the engine, and gives the channel back."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class C2h:
    """A DMA channel from the card; else as :class:`H2c`."""

    @property
    def name(self) -> str:
        """``c2h0``."""

    @property
    def stream(self) -> bool:
        """Whether it has a stream on the card's side, not memory."""

    def read(self, into: _Data, at: int = 0) -> Completed:
        """Fills ``into`` with the card's memory from address ``at`` on, and waits until it is done; cancelled by Ctrl-C."""

    def receive(self, into: Buffer | _Bytes, timeout: float | None = None) -> Completed | None:
        """Receives a packet of a stream, or as much of it as there is room for. None if nothing came in time."""

    def submit(self, into: _Data, at: int = 0) -> Transfer:
        """Starts to fill DMA memory, and does not wait. Of a stream it receives a packet, into one piece."""

    def capture(
        self, blocks: int = 64, block_size: int = 65536, *, overrun: Literal["wait", "overwrite"] = "wait"
    ) -> Capture:
        """Receives without an end, into a ring of blocks. If they come faster than they are read the card waits, or the oldest are
        overwritten and counted. The channel is the capture's from then on."""

    @property
    def closed(self) -> bool:
        """Whether it was given back."""

    def close(self) -> None:
        """Stops the engine, and gives the channel back."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class Transfer(Awaitable[Completed]):
    """A transfer under way, or over. It can be awaited in asyncio, by one task at a time. It goes on if such a wait is cancelled, and
    if nobody has it any more; it ends with its channel and its card. Its memory is kept until the card is done with it."""

    def wait(self, timeout: float | None = None) -> Completed:
        """Waits until it has ended. :class:`TimedOutError` if that takes longer; then it goes on."""

    def done(self) -> bool:
        """Whether it has ended, well or not."""

    def cancel(self) -> bool:
        """Ends it; whether it was not over by then."""

    def __await__(self) -> Generator[Any, None, Completed]: ...

@final
class Completed:
    """What a transfer did."""

    @property
    def bytes(self) -> int:
        """Bytes moved."""

    @property
    def descriptors(self) -> int:
        """Descriptors that they took."""

    @property
    def seconds(self) -> float:
        """From when it was submitted until its end was seen, what was in front of it included."""

    @property
    def ends_packet(self) -> bool:
        """Of what was received from a stream: whether the bytes end a packet."""

@final
class Capture:
    """A ring of blocks that a stream is received into: ``for block in capture``."""

    def read(self, timeout: float | None = None) -> Block | None:
        """The next block; None if there is none in time."""

    @property
    def lost(self) -> int:
        """How many blocks were overwritten before they were read."""

    def __iter__(self) -> Iterator[Block]: ...
    def __next__(self) -> Block: ...
    @property
    def closed(self) -> bool:
        """Whether it was ended."""

    def close(self) -> None:
        """Stops the engine, and gives the channel back."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class Ring:
    """A stream that another program captures: ``for block in ring``, until its writer ends. Who reads too slowly loses blocks, and
    holds up nobody."""

    @property
    def block_size(self) -> int:
        """The most bytes of a block."""

    @property
    def blocks(self) -> int:
        """How many blocks it has."""

    def read(self, timeout: float | None = None) -> Block | None:
        """The next block that is still there; None if none comes in time, or no more will: see :attr:`ended`."""

    @property
    def ended(self) -> Literal["closed", "gone"] | None:
        """Whether its writer has closed it, or is gone; None as long as it goes on."""

    @property
    def lost(self) -> int:
        """How many blocks this reader has lost."""

    def __iter__(self) -> Iterator[Block]: ...
    def __next__(self) -> Block: ...
    def close(self) -> None:
        """Lets go of it."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class Block:
    """A block of a stream."""

    @property
    def number(self) -> int:
        """Counted from 0 when the capture began, those that were lost included."""

    @property
    def data(self) -> bytes:
        """Its bytes, a copy."""

    @property
    def ends_packet(self) -> bool:
        """Whether they end a packet."""

    @property
    def lost(self) -> int:
        """Blocks directly in front of it that were lost."""

    def __len__(self) -> int: ...

@final
class UserInterrupt(Awaitable[None]):
    """An interrupt line of the design's own logic, this program's until it is closed. The logic is to be told that it was heard, in
    its own way: a line that is still up at the next wait counts as raised again. It can be awaited in asyncio, by one task."""

    @property
    def line(self) -> int:
        """Which line it is."""

    @property
    def raised(self) -> bool:
        """Whether the logic holds the line up."""

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the line is raised; whether it was in time."""

    def fileno(self) -> int: ...
    def _arm(self) -> None: ...
    def _has_fired(self) -> bool: ...
    def __await__(self) -> Generator[Any, None, None]: ...
    @property
    def closed(self) -> bool:
        """Whether it was given back."""

    def close(self) -> None:
        """Masks the line, and gives it back."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class Interrupt(Awaitable[None]):
    """An interrupt vector, this program's until it is closed. It can be awaited in asyncio, by one task."""

    @property
    def vector(self) -> int:
        """Which vector it is."""

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the vector has fired since the last call; whether it has in time."""

    def fileno(self) -> int: ...
    def _arm(self) -> None: ...
    def _has_fired(self) -> bool: ...
    def __await__(self) -> Generator[Any, None, None]: ...
    @property
    def closed(self) -> bool:
        """Whether it was given back."""

    def close(self) -> None:
        """Gives it back."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class Lease:
    """A right on a named part of a card, until it is closed."""

    @property
    def part(self) -> str:
        """The part that it is a right on."""

    @property
    def closed(self) -> bool:
        """Whether it was given back."""

    def close(self) -> None:
        """Gives it back."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class Flash:
    """A board's configuration flash, whose bus is this program's until it is closed."""

    @property
    def part(self) -> FlashPart:
        """What it is."""

    def read(self, address: int, size: int) -> bytes:
        """Reads bytes from ``address`` on."""

    def verify(
        self, image: _Bytes, offset: int = 0, *, progress: Callable[[int, int], object] | None = None
    ) -> Difference | None:
        """Compares it with an image from ``offset`` on; None if they are equal. ``progress`` hears how many bytes of how many were."""

    def write(
        self, image: _Bytes, offset: int = 0, *, progress: Callable[[int, int], object] | None = None
    ) -> Written:
        """Writes an image from ``offset`` on, and reads it back. Sectors that are right are left alone, and a half-written image
        starts no FPGA. Ctrl-C, or an exception of ``progress``, stops it between two pages; its ``__cause__`` says what the flash
        holds."""

    @property
    def protection(self) -> int:
        """The bits of its status register that protect blocks from being written; 0 if none is."""

    def unprotect(self) -> None:
        """Takes the protection of all blocks off, for good."""

    @property
    def closed(self) -> bool:
        """Whether it was given back."""

    def close(self) -> None:
        """Gives its bus back."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class FlashPart:
    """What a flash is."""

    @property
    def name(self) -> str | None:
        """What it is called, if its ID is known."""

    @property
    def maker(self) -> str:
        """Who made it."""

    @property
    def id(self) -> str:
        """Its ID as hexadecimal digits."""

    @property
    def size(self) -> int:
        """Bytes in all."""

    @property
    def sector(self) -> int:
        """Bytes that are erased at once."""

    @property
    def page(self) -> int:
        """Bytes that are programmed at once."""

@final
class Difference:
    """How a flash differs from an image."""

    @property
    def bytes(self) -> int:
        """How many bytes differ."""

    @property
    def first(self) -> int:
        """Address of the first of them."""

    @property
    def expected(self) -> int:
        """What it should be."""

    @property
    def read(self) -> int:
        """What it is."""

@final
class Written:
    """What writing an image came to, in sectors."""

    @property
    def sectors(self) -> int:
        """Those that the image touches."""

    @property
    def equal(self) -> int:
        """Those that were right already."""

    @property
    def erased(self) -> int:
        """Those that were erased."""

    @property
    def written(self) -> int:
        """Those that were programmed, and read back."""

@final
class CardInfo:
    """A card that can be opened."""

    @property
    def address(self) -> str:
        """Where it was found."""

    @property
    def vendor(self) -> int:
        """PCI vendor id."""

    @property
    def device(self) -> int:
        """PCI device id."""

    @property
    def subsystem_vendor(self) -> int:
        """PCI subsystem vendor id."""

    @property
    def subsystem_device(self) -> int:
        """PCI subsystem device id."""

    @property
    def revision(self) -> int:
        """PCI revision id."""

    @property
    def designs(self) -> list[str]:
        """Designs of the catalogue that have its ids; which of them it is, :attr:`Card.board` asks the card."""

@final
class Change:
    """A card has arrived, or has left."""

    @property
    def arrived(self) -> bool:
        """Whether it has arrived; else it has left."""

    @property
    def card(self) -> CardInfo:
        """Which card."""

@final
class Watch:
    """Hears of cards that arrive and leave: ``for change in watch``, ``async for change in watch``, or one after the other.

    It has no end of its own. :class:`DisconnectedError` when the broker is gone.
    """

    def wait(self, timeout: float | None = None) -> Change | None:
        """The next change; None if there is none in time."""

    def poll(self) -> Change | None:
        """The next change, if there is one by now."""

    def fileno(self) -> int:
        """For a poll loop of one's own: readable when there may be something to :meth:`poll` for."""

    def __iter__(self) -> Self: ...
    def __next__(self) -> Change: ...
    def __aiter__(self) -> Self: ...
    def __anext__(self) -> Awaitable[Change]: ...
    @property
    def closed(self) -> bool:
        """Whether it was given back."""

    def close(self) -> None:
        """Hears no more."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

@final
class ChannelInfo:
    """What there is to know about a channel without having it."""

    @property
    def name(self) -> str:
        """``h2c0``."""

    @property
    def direction(self) -> Literal["h2c", "c2h"]:
        """Which way it moves data."""

    @property
    def index(self) -> int:
        """Its number, from 0 in each direction."""

    @property
    def stream(self) -> bool:
        """Whether it has a stream on the card's side, not memory."""

@final
class Memory:
    """Memory on a card."""

    @property
    def kind(self) -> str | None:
        """What it is made of, where known: ``ddr``, ``block-ram``, ``hbm``, ``ultra-ram``."""

    @property
    def base(self) -> int:
        """Address of its first byte, on the card."""

    @property
    def size(self) -> int:
        """Bytes."""

@final
class Board:
    """Which board a card is."""

    @property
    def name(self) -> str:
        """The board's name: ``NiteFury``."""

    @property
    def design(self) -> str:
        """The design's name."""

    @property
    def version(self) -> int | None:
        """The board's version, if its design has one."""

    @property
    def fpga(self) -> list[str]:
        """The FPGAs that it may have."""

    @property
    def memories(self) -> list[Memory]:
        """The memories that its DMA engine reaches."""

@final
class Design:
    """A design of the catalogue."""

    @property
    def name(self) -> str:
        """The design's name, unique in the catalogue; :func:`emulate` takes it."""

    @property
    def aliases(self) -> list[str]:
        """Other names of it."""

    @property
    def board(self) -> str:
        """The board that it is for."""

    @property
    def fpga(self) -> list[str]:
        """The FPGAs that it is built for."""

    @property
    def xdma(self) -> bool:
        """Whether it has an XDMA."""

    @property
    def memories(self) -> list[Memory]:
        """The memories that its DMA engine reaches."""

    @property
    def peripherals(self) -> list[str]:
        """What on it has registers and a name: keys of :attr:`Card.registers`."""

    @property
    def note(self) -> str | None:
        """What a user should know besides."""

@final
class Reading:
    """What a sensor says."""

    @property
    def monitor(self) -> str:
        """What measures: ``xadc``, ``sysmon``, ``cms``."""

    @property
    def name(self) -> str:
        """What the sensor is called."""

    @property
    def quantity(self) -> Literal["temperature", "voltage", "current", "power", "speed"]:
        """What it measures."""

    @property
    def unit(self) -> str:
        """The unit of the values."""

    @property
    def now(self) -> float:
        """The value now."""

    @property
    def min(self) -> float | None:
        """The least value since the monitor was reset, if it keeps one."""

    @property
    def average(self) -> float | None:
        """The average, if the monitor forms one."""

    @property
    def max(self) -> float | None:
        """The greatest value since the monitor was reset, if it keeps one."""

    @property
    def alarm(self) -> bool | None:
        """Whether it is outside of its limits; None if nobody watches it."""

@final
class Usage:
    """What a program at the broker uses."""

    @property
    def pid(self) -> int | None:
        """Its process id, if the broker can tell."""

    @property
    def program(self) -> str:
        """What it called itself."""

    @property
    def cards(self) -> list[str]:
        """The addresses of its cards."""

    @property
    def leases(self) -> list[tuple[str, str]]:
        """Its leases: address of the card, and part."""

    @property
    def waits(self) -> list[tuple[str, str, int]]:
        """Leases that it waits for: address, part, and place in line, of which 1 is next."""

    @property
    def buffers(self) -> int:
        """How many DMA buffers it has."""

    @property
    def buffer_bytes(self) -> int:
        """Their bytes."""
