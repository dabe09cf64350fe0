"""What can go wrong, by kind."""


class Error(Exception):
    """A failure, in words that say what, where and what to do.

    ``errno`` is the system's number behind it, ``holder`` who has what was asked for, ``remedy`` what can be done; each is None
    where that is not known.
    """

    def __init__(
        self,
        message: str = "",
        *,
        errno: int | None = None,
        holder: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message)
        self.errno = errno
        self.holder = holder
        self.remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        facts = {"errno": self.errno, "holder": self.holder, "remedy": self.remedy}
        return (_rebuilt, (type(self), str(self), facts))


def _rebuilt(kind: "type[Error]", message: str, facts: dict[str, object]) -> "Error":
    return kind(message, **facts)  # type: ignore[arg-type]


class NotFoundError(Error):
    """There is no such card, board, BAR, channel or register."""


class HeldError(Error):
    """Somebody else has it: see ``holder``."""


class InvalidError(Error, ValueError):
    """The request itself is wrong: a size, an alignment, a name."""


class OutOfBoundsError(Error, IndexError):
    """The access lies outside of the registers, the buffer or the flash."""


class UnsupportedError(Error):
    """The card, kernel or broker cannot do this."""


class ExhaustedError(Error):
    """No memory, no address space, no huge pages, or a limit was reached."""


class DeniedError(Error):
    """The caller has no right to it."""


class LinkDownError(Error):
    """The card answers nothing: link down, reset, unplugged, or the process that emulates it is gone."""


class DisconnectedError(Error):
    """The broker is gone, or has ended the connection."""


class TimedOutError(Error):
    """It took longer than it may."""


class ProtocolError(Error):
    """Another process does not keep to the protocol."""


class TransferError(Error):
    """The card's DMA engine has failed, or has not stopped."""


class CancelledError(Error):
    """The transfer was given up before it had ended."""


class FlashError(Error):
    """The flash, or the bus that it is on, does not answer as it should; or writing it was stopped."""


class ClosedError(Error, ValueError):
    """It was closed, or freed."""


class ForkedError(Error, RuntimeError):
    """It is the parent's: this process was forked from it."""
