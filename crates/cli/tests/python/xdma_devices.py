"""Devices as a program in Python uses them: run by `jitney xdma-compat -- python3 xdma_devices.py`."""

import fcntl
import glob
import mmap
import os
import struct
import subprocess
import tempfile

H2C, C2H, USER = "/dev/xdma0_h2c_0", "/dev/xdma0_c2h_0", "/dev/xdma0_user"


def fails(name, call):
    try:
        call()
    except OSError as error:
        import errno
        assert errno.errorcode[error.errno] == name, error
    else:
        raise AssertionError(f"{name} was expected")


to, back = os.open(H2C, os.O_WRONLY), os.open(C2H, os.O_RDONLY)
data = os.urandom(5_000_003)
assert os.pwrite(to, data, 0x10_0001) == len(data)
assert os.pread(back, len(data), 0x10_0001) == data
assert os.writev(to, [b"abc", b"defg"]) == 7
buffers = [bytearray(2), bytearray(5)]
assert os.preadv(back, buffers, 0) == 7 and b"".join(buffers) == b"abcdefg"
fails("EBADF", lambda: os.read(to, 4))
fails("ENODEV", lambda: mmap.mmap(back, 4096, prot=mmap.PROT_READ))

registers = os.open(USER, os.O_RDWR)
with mmap.mmap(registers, 0x2_0000) as view:
    assert view[:4] == b"ETIN", view[:4]
    assert struct.unpack_from("<I", view, 8) == (2,)
    assert view[0:64][:4] == b"ETIN"
    view[0x2008:0x200C] = struct.pack("<I", 2)
assert os.pread(registers, 4, 0) == b"ETIN"
assert os.read(registers, 4) == b"ETIN" and os.lseek(registers, 0, os.SEEK_CUR) == 4

with open(H2C, "r+b", buffering=0) as file:
    assert file.seek(0x40) == 0x40 and file.write(b"hello") == 5 and file.fileno() > 2
with open(C2H, "rb") as file:
    file.seek(0x40)
    assert file.read1(5) == b"hello"

assert os.path.exists(USER) and not os.path.exists("/dev/xdma0_bypass")
found = glob.glob("/dev/xdma0_*")
assert len(found) == 20 and H2C in found, found
os.chdir("/dev")
assert os.pread(os.open("xdma0_c2h_0", os.O_RDONLY), 3, 0) == b"abc"

# Children: one that is forked, one that gets a descriptor, one that a shell gives it by name.
if os.fork() == 0:
    os._exit(3 if os.pread(back, 7, 0) == b"abcdefg" else 4)
assert os.wait()[1] >> 8 == 3
os.lseek(back, 2, os.SEEK_SET)
read = subprocess.run(["dd", "bs=5", "count=1", "status=none"], stdin=back, capture_output=True, check=True)
assert read.stdout == b"cdefg", read
subprocess.run(f"cat > {H2C}", shell=True, input=b"piped", check=True)
assert os.pread(back, 5, 0) == b"piped"
# A child of vfork, as subprocess makes it, closes descriptors; the parent's are as they were.
assert os.pwrite(to, b"again", 0) == 5

alignment = bytearray(4)
fcntl.ioctl(back, 0x8004_7106, alignment)
assert struct.unpack("<i", alignment) == (1,)
question = bytearray(struct.pack("<I36x", 0x586C_0C6C))
fcntl.ioctl(registers, 0xC028_7801, question)
assert struct.unpack_from("<HH", question, 8) == (0x10EE, 0x7011)
block = bytes(range(64)) * 4
memory = mmap.mmap(-1, 4096)
memory[: len(block)] = block
import ctypes

address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
aperture = bytearray(struct.pack("<QI4xQQi4xQ", 0x2000, 64, address, len(block), 0, 0))
fcntl.ioctl(to, 0x4008_7108, aperture)
assert struct.unpack("<QI4xQQi4xQ", aperture)[4:] == (0, len(block))
assert os.pread(back, 128, 0x2000) == bytes(range(64)) + bytes(64)

# All of a transfer to one address: each beat of the 64-bit data path is an access of its own there.
assert os.pwrite(to, bytes(64), 0x3000) == 64
fcntl.ioctl(to, 0x4004_7104, 1)
mode = bytearray(4)
fcntl.ioctl(to, 0x8004_7105, mode)
assert struct.unpack("<i", mode) == (1,)
assert os.pwrite(to, bytes(range(64)), 0x3000) == 64
fcntl.ioctl(to, 0x4004_7104, 0)
came = os.pread(back, 64, 0x3000)
assert came[:8] in (bytes(range(56, 64)), bytes(range(48, 56))) and came[16:] == bytes(48), came

with tempfile.NamedTemporaryFile() as file:
    subprocess.run(["cp", file.name, file.name + ".x"], check=True)
    os.remove(file.name + ".x")
print("python is content")
