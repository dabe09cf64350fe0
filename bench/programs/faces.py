"""Does as often as a line of its input says what the line names, and says how many nanoseconds it took: `reads 5000`, `ctypes 5000`
or `transfers 2000`. The card is the only one that JITNEY_CARDS names."""

import ctypes
import sys
from time import monotonic_ns

import jitney


def main():
    card = jitney.open()
    registers = card.bar(0)
    array = (ctypes.c_uint32 * 1024)()
    buffer = card.buffer(4096)
    channel = None
    for line in sys.stdin:
        what, count = line.split()
        times = range(int(count))
        if what == "transfers" and channel is None:
            channel = card.h2c(0)
        begun = monotonic_ns()
        if what == "reads":
            for _ in times:
                registers[0]
        elif what == "ctypes":
            for _ in times:
                array[0]
        else:
            for _ in times:
                channel.write(buffer, at=0)
        print(monotonic_ns() - begun, flush=True)


main()
