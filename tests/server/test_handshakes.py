"""The order of TLS handshakes: one in a turn of the event loop, and addresses with many unfinished ones last."""

from __future__ import annotations

import asyncio

from featherpose.server.connections.connections import Connections, Phase
from featherpose.server.connections.handshakes import Handshakes
from featherpose.server.options import ServeLimits


def test_a_new_address_goes_before_a_crowd_and_the_event_loop_has_turns_in_between() -> None:
    begun: list[str] = []
    turns_of_others = 0

    async def open_one(handshakes: Handshakes, address: str) -> None:
        async with handshakes.turn(address):
            begun.append(address)
            await asyncio.Event().wait()

    async def all_of_them() -> None:
        nonlocal turns_of_others
        handshakes = Handshakes()
        tasks = [asyncio.create_task(open_one(handshakes, "10.0.0.1")) for _ in range(50)]
        while len(begun) < 10:
            await asyncio.sleep(0)
        tasks.append(asyncio.create_task(open_one(handshakes, "10.0.0.2")))
        while len(begun) < 51:
            turns_of_others += 1
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not handshakes._unfinished
        assert not handshakes._waiting

    asyncio.run(all_of_them())
    assert begun.index("10.0.0.2") <= 13
    assert turns_of_others >= 40


def test_whoever_leaves_while_waiting_keeps_nobody_up() -> None:
    async def all_of_them() -> list[int]:
        handshakes, begun = Handshakes(), []

        async def open_one(number: int) -> None:
            async with handshakes.turn("10.0.0.1"):
                begun.append(number)

        tasks = [asyncio.create_task(open_one(number)) for number in range(4)]
        await asyncio.sleep(0)
        for number in (0, 2):
            tasks[number].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.wait_for(open_one(4), 5)
        assert not handshakes._unfinished
        return begun

    assert asyncio.run(all_of_them()) == [1, 3, 4]


def test_the_address_with_most_connections_gives_way() -> None:
    connections = Connections(ServeLimits(connections=4))
    turned_away = []
    for name in ("alone", "crowd 1", "crowd 2", "crowd 3"):
        link = connections.admit(name.split()[0])
        link.turn_away = lambda name=name: turned_away.append(name)  # type: ignore[misc]
    for _ in range(4):
        connections.admit("other").enter(Phase.BUSY)
    assert turned_away == ["crowd 1", "crowd 2", "alone", "crowd 3"]
