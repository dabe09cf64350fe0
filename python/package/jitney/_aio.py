"""Waiting in asyncio."""

import asyncio
from typing import Protocol

from ._jitney import Change, Completed, Interrupt, Transfer, UserInterrupt, Watch

# So often is looked without having been woken, in case that waking failed.
_LOOK = 0.25


class _HasDescriptor(Protocol):
    def fileno(self) -> int: ...


class _Waking(_HasDescriptor, Protocol):
    def poll(self) -> bool: ...


async def _readable(source: _HasDescriptor) -> None:
    loop = asyncio.get_running_loop()
    heard = loop.create_future()

    def wake() -> None:
        if not heard.done():
            heard.set_result(None)

    descriptor = source.fileno()
    loop.add_reader(descriptor, wake)
    timer = loop.call_later(_LOOK, wake)
    try:
        await heard
    finally:
        timer.cancel()
        loop.remove_reader(descriptor)


async def finished(waking: _Waking | None, transfer: Transfer) -> Completed:
    """Waits for a transfer that goes on, by what wakes it. The transfer goes on if the wait is cancelled."""
    if waking is not None:
        while not waking.poll():
            await _readable(waking)
    return transfer.wait()


async def fired(interrupt: Interrupt | UserInterrupt) -> None:
    """Waits for an interrupt."""
    interrupt._arm()
    while not interrupt._has_fired():
        await _readable(interrupt)


async def changed(watch: Watch) -> Change:
    """Waits for a card that arrives or leaves."""
    while (change := watch.poll()) is None:
        await _readable(watch)
    return change
