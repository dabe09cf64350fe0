"""A program with types, for mypy: it is read and not run."""

import asyncio

import jitney
import numpy as np


def measure(card: jitney.Card) -> dict[str, float]:
    return {sensor.name: sensor.now for sensor in card.sensors() if sensor.quantity == "temperature"}


async def move(card: jitney.Card) -> int:
    with card.h2c(0, wait="adaptive") as h2c, card.buffer(1 << 16) as buffer:
        done: jitney.Completed = await h2c.submit(buffer, at=0)
        both = await asyncio.gather(h2c.submit(memoryview(buffer)[:16]), h2c.submit(buffer.array("u4")[:4]))
        return done.bytes + sum(own.bytes for own in both)


def main() -> None:
    with jitney.emulate("nitefury", link="gen2x4", faults=["hang:h2c0@9"]) as card:
        bar: jitney.Registers = card.bar(0)
        words: list[int] = bar[0:16]
        bar[0x2004] = words[0] & 1
        bar[np.uint32(4)] = np.uint32(5)
        card.registers["xdma"]["h2c0.control"] = 0
        card.c2h().read(np.zeros(16), at=0x100)
        with card.user_interrupt(0) as line:
            heard: bool = line.wait(timeout=1)
        card.set_user_interrupt(0, heard)
        print(measure(card), asyncio.run(move(card)))
    with jitney.Bus("/run/broker.sock", wait=5.0) as bus:
        for block in bus.ring("samples"):
            print(len(block.data), block.lost)
        try:
            bus.open("NiteFury").lease("filter", wait=None)
        except jitney.HeldError as error:
            print(error.holder or error.remedy, error.errno)
