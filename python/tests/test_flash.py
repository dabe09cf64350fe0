"""The configuration flash."""

import pytest

import jitney


@pytest.mark.scenario("flash_info")
def test_an_image_is_written_verified_and_written_again(board):
    with board.flash() as flash:
        part = flash.part
        assert part.size == 32 << 20 and part.name
        image = bytes(range(256)) * 32
        assert flash.verify(image).first == 0
        heard = []
        written = flash.write(image, progress=lambda done, of: heard.append((done, of)))
        assert written.written == written.sectors == 1 and heard[-1][0] <= heard[-1][1] == len(image)
        assert flash.verify(image) is None
        assert flash.read(0x100, 16) == image[0x100:0x110]
        again = flash.write(memoryview(image))
        assert again.equal == 1 and again.written == 0
        changed = bytearray(image)
        changed[5_000] ^= 1
        difference = flash.verify(changed)
        assert (difference.bytes, difference.first) == (1, 5_000)
        assert difference.expected ^ difference.read == 1


def test_what_progress_raises_stops_the_writing_and_is_raised(board):
    class Enough(Exception):
        pass

    def stop(done, of):
        raise Enough

    with board.flash() as flash, pytest.raises(Enough) as caught:
        flash.write(b"\0" * 4096, progress=stop)
    assert isinstance(caught.value.__cause__, jitney.FlashError)


def test_what_is_not_in_the_flash_is_refused(board):
    flash = board.flash()
    for address, size in ((32 << 20, 1), (0, (32 << 20) + 1), ((1 << 64) - 1, 1)):
        with pytest.raises(jitney.OutOfBoundsError):
            flash.read(address, size)
    with pytest.raises(jitney.OutOfBoundsError):
        flash.write(b"x" * 4096, offset=32 << 20)
    with pytest.raises(jitney.HeldError):
        board.flash()
