"""Several processes: a shared broker, Ctrl-C, forks, and programs that are killed."""

import asyncio
import os
import signal
import subprocess
import time

import pytest
from conftest import SOON

import jitney

HOLDER = """
    import sys, jitney
    with jitney.open() as card, card.lease("filter"), card.h2c() as h2c:
        h2c.write(b"from another process", at=0x100)
        print("ready")
        input()
        card.c2h().read(got := bytearray(6), at=0x200)
        print(got.decode())
"""


@pytest.mark.scenario("card_chosen")
def test_a_card_is_chosen_by_what_it_says(broker):
    with_dna = "XCKU5P_SINGLE_QSFP_dma_ddr4"
    socket = broker("--emulate", "nitefury", "--emulate", "litefury", "--emulate", with_dna)
    with jitney.Bus(broker=socket) as bus:
        with bus.open(board="LITEFURY") as card:
            assert card.board.name == "LiteFury"
            address, serial = card.address, card.serial
        assert serial == "00-00-00-01-01-00-0a-35"
        for number in (serial, 0x1_0100_0A35):
            with bus.open("litefury", serial=number) as card:
                assert (card.address, card.dna) == (address, [])
        with bus.open(with_dna) as card:
            (dna,) = card.dna
            assert card.serial is None
        for card in (bus.open(dna=dna), bus.open(f"dna:{dna}"), bus.open(where=lambda card: len(card.dna) == 1)):
            with card:
                assert card.board.design == with_dna
        with pytest.raises(jitney.NotFoundError, match=f"2 cards fit serial number {serial}: .*{address}") as several:
            bus.open(serial=serial)
        assert several.value.remedy == "name one by its address"
        with pytest.raises(jitney.NotFoundError, match="there are 3 cards"):
            bus.open()
        for nobody in ({"board": "no-such"}, {"serial": 7}, {"dna": "0" * 24}, {"where": lambda _: False}):
            with pytest.raises(jitney.NotFoundError, match=f"no card fits .*{address}"):
                bus.open(**nobody)
        for wrong in ({"serial": "7"}, {"dna": "4002"}, {"selector": "serial:7"}):
            with pytest.raises(jitney.InvalidError):
                bus.open(**wrong)
        with pytest.raises(ZeroDivisionError):
            bus.open(where=lambda _: 1 / 0)


@pytest.mark.scenario("cards_come_and_go")
def test_cards_that_arrive_and_leave_are_heard_of(command, broker, runtime):
    place = runtime / "later.sock"
    socket = broker("--on-demand", "--card", f"vfio-user:{place}")

    def board():
        own = subprocess.Popen([command, "emulate", "litefury", "--socket", str(place)], stdout=subprocess.PIPE, text=True)
        assert own.stdout.readline().startswith("serving")
        return own

    def end(own):
        own.terminate()
        own.communicate(timeout=SOON)

    with jitney.Bus(broker=socket) as bus, bus.watch() as watch:
        assert bus.cards() == [] and watch.poll() is None and watch.wait(0) is None
        own = board()
        change = watch.wait(SOON)
        assert change.arrived and change.card.address == f"vfio-user:{place}"
        with bus.open("litefury") as card:
            assert card.address == change.card.address
        end(own)
        change = next(iter(watch))
        assert not change.arrived and change.card.address == f"vfio-user:{place}" and bus.cards() == []

        async def both():
            own, heard = board(), []
            async for change in watch:
                heard.append(change.arrived)
                if len(heard) == 2:
                    return heard
                end(own)

        assert asyncio.run(asyncio.wait_for(both(), SOON)) == [True, False]
        assert watch.fileno() >= 0
    with pytest.raises(jitney.ClosedError):
        watch.poll()


def test_a_program_that_is_alone_sees_this_users_boards_come_and_go(command, program, runtime):
    waiting = program(
        """
        import jitney
        with jitney.Bus() as bus, bus.watch() as watch:
            print("watches", len(bus.cards()))
            for change in watch:
                print(change)
                if not change.arrived:
                    break
                with jitney.Bus(cards=[change.card.address]) as own, own.open("nitefury") as card:
                    print(card.board.name)
        """
    )
    assert waiting.hears() == "watches 0"
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime)}
    own = subprocess.Popen([command, "emulate", "nitefury"], env=environment, stdout=subprocess.PIPE, text=True)
    assert waiting.hears().endswith("has arrived>")
    assert waiting.hears() == "NiteFury"
    own.terminate()
    own.communicate(timeout=SOON)
    assert waiting.ends().endswith("has left>")


def test_ctrl_c_ends_the_wait_for_a_card(broker, program):
    waiting = program(
        """
        import jitney
        with jitney.Bus() as bus, bus.watch() as watch:
            print("watches")
            try:
                for change in watch:
                    print(change)
            except KeyboardInterrupt:
                print("interrupted")
        """,
        broker=broker("--on-demand"),
    )
    assert waiting.hears() == "watches"
    waiting.interrupt()
    assert waiting.ends() == "interrupted"


@pytest.mark.scenario("held_names_the_holder", "lease_waited_for", "under_a_broker")
def test_two_programs_share_a_card_and_hear_who_holds_what(broker, program):
    socket = broker("--emulate", "nitefury")
    other = program(HOLDER, broker=socket)
    assert other.hears() == "ready"
    with jitney.Bus(broker=socket) as bus, bus.open("NiteFury") as card:
        assert bus.broker not in (None, os.getpid())
        for ask in (lambda: card.lease("filter"), lambda: card.h2c(), lambda: card.lease("h2c0")):
            with pytest.raises(jitney.HeldError) as caught:
                ask()
            assert caught.value.holder.startswith(f"pid {other.process.pid} (")
            assert caught.value.holder.endswith(")")
        with pytest.raises(jitney.HeldError):
            card.reset()
        got = bytearray(20)
        card.c2h().read(got, at=0x100)
        assert got == b"from another process"
        leases = {part: usage.pid for usage in bus.usage() for _, part in usage.leases}
        assert leases["filter"] == leases["h2c0"] == other.process.pid
        # Waits in line until the other is done.
        other.tell()
        assert other.ends() == "\0" * 6
        with card.lease("filter", wait=60) as lease:
            assert lease.part == "filter"
        card.lease("filter", shared=True), card.lease("filter", shared=True)


def test_memory_is_shared_with_another_program(broker, program):
    socket = broker("--emulate", "nitefury")
    with jitney.Bus(broker=socket) as bus, bus.open() as card:
        buffer = card.buffer(4096)
        array = buffer.array("u4")
        token = bus.share(buffer, name="samples", writable=True)
        other = program(
            """
            import jitney
            bus = jitney.Bus()
            own = bus.attach("samples")
            own.array("u4")[:] = 42
            bus.open().h2c().write(own, at=0)
            print(own.iova)
            """,
            broker=socket,
        )
        assert int(other.ends()) == buffer.iova
        assert (array == 42).all()
        with pytest.raises(jitney.InvalidError, match="has the buffer already|already"):
            bus.attach(token=token)
        for wrong in ({}, {"name": "a", "token": "b"}, {"token": "zz"}):
            with pytest.raises(jitney.InvalidError):
                bus.attach(**wrong)
        bus.unshare(buffer)
        with pytest.raises(jitney.NotFoundError):
            bus.ring("samples")
        del array
        buffer.free()


def test_what_a_killed_program_had_is_free_at_once(broker, program):
    socket = broker("--emulate", "nitefury")
    other = program(
        """
        import jitney
        card = jitney.open()
        h2c, buffer, lease = card.h2c(), card.buffer(64 << 20), card.lease("filter")
        print("ready", flush=True)
        while True:
            h2c.write(buffer)
        """,
        broker=socket,
    )
    assert other.hears() == "ready"
    other.process.kill()
    with jitney.Bus(broker=socket) as bus, bus.open() as card:
        with card.lease("filter", wait=60), card.lease("h2c0", wait=60):
            pass
        card.h2c().write(b"x")
        other.process.wait()
        assert all(usage.pid != other.process.pid for usage in bus.usage())


def test_a_broker_that_is_killed_is_said(command, runtime):
    socket = runtime / "broker.sock"
    own = subprocess.Popen(
        [command, "broker", "--socket", str(socket), "--emulate", "nitefury"],
        env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)},
        stdout=subprocess.PIPE,
        text=True,
    )
    while not own.stdout.readline().startswith("listening"):
        pass
    bus = jitney.Bus(broker=socket)
    card = bus.open()
    buffer = card.buffer(4096)
    array = buffer.array()
    own.kill()
    own.communicate()
    with pytest.raises(jitney.DisconnectedError):
        card.lease("filter")
    with pytest.raises(jitney.Error):
        card.buffer(4096)
    # What there is stays.
    array[:] = 1
    assert array.sum() == 4096


#: What is made before, and what waits then.
WAITS = {
    "interrupt": ("card.user_interrupt(0)", "own.wait()"),
    "transfer": ("card.c2h().submit(card.buffer(4096))", "own.wait()"),
    "packet": ("card.c2h()", "own.receive(bytearray(4096))"),
    "capture": ("card.c2h().capture()", "own.read()"),
    "captured blocks": ("card.c2h().capture(overrun='overwrite')", "list(own)"),
    "slow transfer": ("card.h2c(timeout=60)", "own.write(bytes(1 << 30), at=0)"),
    "awaited": ("card.c2h().submit(card.buffer(4096))", "asyncio.run(wait(own))"),
}


@pytest.mark.parametrize("what", WAITS)
def test_ctrl_c_ends_a_wait_at_once(program, what):
    board = "nitefury" if what == "slow transfer" else "NiteFury_dma_stream_loopback"
    before, wait = WAITS[what]
    other = program(
        f"""
        import asyncio, jitney
        async def wait(transfer):
            await transfer
        with jitney.emulate({board!r}, link=64 << 20) as card:
            own = {before}
            try:
                print("ready", flush=True)
                {wait}
            except KeyboardInterrupt:
                print("interrupted", flush=True)
            # All is as before.
            if card.board.design != "NiteFury_dma_stream_loopback":
                own.write(b"x")
        """
    )
    assert other.hears() == "ready"
    started = time.monotonic()
    other.interrupt()
    assert other.hears() == "interrupted"
    assert time.monotonic() - started < 5
    other.ends()


def test_ctrl_c_ends_a_wait_for_a_lease_and_leaves_the_line(broker, program):
    socket = broker("--emulate", "nitefury")
    with jitney.Bus(broker=socket) as bus, bus.open() as card:
        lease = card.lease("filter")
        other = program(
            """
            import jitney
            card = jitney.open()
            print("ready", flush=True)
            try:
                card.lease("filter", wait=None)
            except KeyboardInterrupt:
                print("interrupted", flush=True)
            input()
            """,
            broker=socket,
        )
        assert other.hears() == "ready"
        end = time.monotonic() + 60
        while not any(usage.waits for usage in bus.usage()):
            assert time.monotonic() < end
        other.interrupt()
        assert other.hears() == "interrupted"
        # It lets go of what it gets after all.
        lease.close()
        with card.lease("filter", wait=60):
            pass
        other.tell()
        other.ends()


def test_a_program_is_ended_by_ctrl_c_without_a_word_of_ours(program):
    other = program(
        """
        import jitney
        card = jitney.emulate("NiteFury_dma_stream_loopback")
        c2h = card.c2h()
        print("ready", flush=True)
        c2h.receive(bytearray(64))
        """
    )
    assert other.hears() == "ready"
    other.interrupt()
    other.ends(status=-signal.SIGINT)


def test_the_interpreter_ends_in_the_middle_of_everything(program):
    other = program(
        """
        import asyncio, jitney, threading, time
        card = jitney.emulate("NiteFury_dma_stream_loopback")
        card.routes = [None] * len(card.routes) if "stream-switch" in card.registers else None
        array = card.buffer(1 << 20).array()
        transfer = card.c2h().submit(array)
        line = card.user_interrupt(0)
        threading.Thread(target=line.wait, daemon=True).start()
        threading.Thread(target=transfer.wait, daemon=True).start()
        async def leave():
            asyncio.ensure_future(asyncio.wait_for(transfer, 100))
            await asyncio.sleep(0.01)
        asyncio.run(leave())
        print("ends", flush=True)
        """.replace(
            """        card.routes = [None] * len(card.routes) if "stream-switch" in card.registers else None\n""", ""
        )
    )
    assert other.ends() == "ends"


FORK = """
    import os, sys, jitney
    card = jitney.open()
    h2c, lease, buffer = card.h2c(), card.lease("filter"), card.buffer(4096)
    array, bar, transfer = buffer.array(), card.bar(0), h2c.submit(buffer)
    print(transfer.wait().bytes, flush=True)
    child = os.fork()
    if child == 0:
        refused = 0
        for use in (
            lambda: card.bar(0), lambda: bar[0], lambda: h2c.write(b"x"), lambda: h2c.write(array), lambda: buffer.free(),
            lambda: lease.close(), lambda: h2c.close(), lambda: card.close(), lambda: transfer.wait(), lambda: card.sensors(),
            lambda: transfer.__await__(), lambda: memoryview(buffer), lambda: card.buffer(1),
        ):
            try:
                use()
            except (jitney.ForkedError, BufferError) as error:
                refused += "was forked" in str(error) or "cannot await" in str(error)
        print(refused, flush=True)
        # Another one of its own is possible, where somebody shares it; the copies go with the child.
        own = jitney.open()
        print(hex(own.bar(0)[0]), flush=True)
        del own, card, h2c, lease, buffer, array, bar, transfer
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    # Nothing of the parent's was given back.
    h2c.write(array)
    print(len([part for usage in jitney.Bus().usage() for _, part in usage.leases]), flush=True)
"""


@pytest.mark.scenario("fork_refused")
def test_a_forked_child_is_refused_and_its_end_changes_nothing(broker, program):
    other = program(FORK, broker=broker("--emulate", "nitefury"))
    assert other.ends().split() == ["4096", "13", "0x4e495445", "2"]


def test_a_forked_child_leaves_a_with_block_as_it_wants(program):
    other = program(
        """
        import os, sys, jitney
        with jitney.emulate("nitefury") as card, card.h2c() as h2c, card.lease("a"), card.buffer(1) as buffer:
            if (child := os.fork()) == 0:
                sys.exit(7)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            print(h2c.write(b"goes on").bytes)
        """
    )
    assert other.ends().split() == ["7", "7"]


def test_processes_of_multiprocessing_open_their_own(broker, program, tmp_path):
    source = tmp_path / "workers.py"
    source.write_text(
        """
import jitney, multiprocessing

def work(number):
    with jitney.open() as card, card.lease("work", wait=60):
        return hex(card.bar(0)[0])

if __name__ == "__main__":
    for way in ("spawn", "forkserver", "fork"):
        with multiprocessing.get_context(way).Pool(2) as pool:
            print(*pool.map(work, range(4)))
"""
    )
    other = program(
        "import runpy, sys; sys.argv[:] = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')",
        str(source),
        broker=broker("--emulate", "nitefury"),
    )
    assert other.ends().split() == ["0x4e495445"] * 12


def test_a_bus_that_owns_its_cards_shares_nothing(command, runtime):
    socket = runtime / "board.sock"
    own = subprocess.Popen(
        [command, "emulate", "nitefury", "--socket", str(socket)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert own.stdout.readline()
        with jitney.Bus(cards=[f"vfio-user:{socket}"]) as bus, bus.open() as card:
            assert bus.broker is None and bus.usage() == []
            (info,) = bus.cards()
            assert info.address == card.address and "Project-0" in info.designs
            buffer = bus.buffer(4096)
            card.h2c().write(buffer)
            with pytest.raises(jitney.UnsupportedError, match="jitney broker"):
                bus.share(buffer)
            own.kill()
            own.wait()
            with pytest.raises(jitney.LinkDownError):
                while True:
                    card.registers["xdma"]["h2c0.status"]
    finally:
        own.kill()
        own.communicate()


def test_a_program_opens_the_cards_that_it_owns_as_often_as_it_likes(command, runtime, program, monkeypatch):
    socket = runtime / "board.sock"
    words = [command, "emulate", "nitefury", "--socket", str(socket)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as own:
        try:
            assert own.stdout.readline()
            monkeypatch.setenv("JITNEY_CARDS", f"vfio-user:{socket}")
            other = program(
                """
                import jitney, threading
                print(len(jitney.cards()))
                opened = []
                threads = [threading.Thread(target=lambda: opened.append(jitney.open())) for _ in range(4)]
                for thread in threads: thread.start()
                for thread in threads: thread.join()
                again = jitney.open(opened[0].address)
                again.h2c().write(opened[0].buffer(4096))
                for card in (*opened, again): card.close()
                print(len(opened), hex(jitney.open("nitefury").bar(0)[0]))
                try:
                    jitney.open("litefury")
                except jitney.NotFoundError as error:
                    print("there is" in str(error))
                """
            )
            assert other.ends().split() == ["1", "4", "0x4e495445", "True"]
        finally:
            own.kill()
