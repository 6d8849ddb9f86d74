"""Hop messages of several parts: fewer messages, and each part stands for itself."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from relto.courier import ALONE_FROM, MESSAGE_BYTES, ROWS_MAX, _messages, _together
from relto.errors import PeerError
from relto.hands import Owed
from relto.hop import PARTS_MAX, Hop, open_hop, seal_hop
from relto.links import Response
from relto.ports import Answer, OutboxRow
from relto.records import Release
from test_hop import BARE, KEY
from world import World, in_world


def row(number: int, precedence: int = 3, attempts: int = 0) -> OutboxRow:
    return OutboxRow(number, "USA", precedence, 0, 0, attempts, "", "", b"{}")


async def shared(
    world: World, count: int, precedence: str = "ROUTINE", size: int = 10
) -> list[str]:
    """Items from Seoul that need nobody's review, all owed to Washington."""
    return [
        await world.share(
            "KOR", "KOR:III", "JPN", topics=("automatic",), precedence="ROUTINE",
            body=b"%03d" % number + bytes(size),
        )
        for number in range(count)
    ]  # fmt: skip


def messages(world: World, sender: str, receiver: str) -> list[bytes]:
    """The hop messages that went over a link, each once."""
    bodies = [
        s.body
        for s in world.sights
        if (s.sender, s.receiver) == (sender, receiver) and s.path.endswith("/hop")
    ]
    return list(dict.fromkeys(bodies))


async def lane(world: World, party: str, peer: str, index: int = 1) -> int:
    """What one lane would do until nothing is due; how many times it took rows in hand."""
    courier, times = world[party].couriers[peer], 0
    while (rows := courier._best(index * 2 + 1)[0]) and times < 100:
        times += 1
        with suppress(PeerError):
            await courier.carry(rows)
    return times


# What goes together


def test_what_goes_together_is_of_one_precedence_and_has_a_limit() -> None:
    due = [row(n, precedence=n // 40) for n in range(80)]
    assert ROWS_MAX == 16
    assert _together(due) == due[:16]
    assert _together(due[38:]) == due[38:40]
    assert _together(due[40:]) == due[40:56]


def test_what_failed_often_goes_alone_and_holds_up_nobody() -> None:
    assert ALONE_FROM == 2
    good, bad = [row(n) for n in range(2, 6)], row(1, attempts=2)
    assert _together([bad, *good]) == [bad]
    assert _together([good[0], bad, *good[1:]]) == good
    assert _together([row(1, attempts=1), *good]) == [row(1, attempts=1), *good]


def test_a_message_keeps_its_limits_and_every_part_in_its_order() -> None:
    def owed(size: int) -> Owed:
        return Owed(row(1), None, part=bytes(size))  # type: ignore[arg-type]  # only its part counts

    half = MESSAGE_BYTES // 2 - 1
    sizes = [half, half, 1, MESSAGE_BYTES + 5, 1, *[1] * PARTS_MAX]
    split = [[len(each.part) for each in m] for m in _messages([owed(size) for size in sizes])]
    assert [size for message in split for size in message] == sizes
    assert split[0] == [half, half]
    assert split[1] == [1]
    assert split[2] == [MESSAGE_BYTES + 5]  # too large to share: it goes alone
    assert [len(message) for message in split[3:]] == [PARTS_MAX, 1]
    assert list(_messages([])) == []


@pytest.mark.parametrize("count", [1, PARTS_MAX])
def test_a_message_has_at_least_one_part_and_at_most_its_limit(count: int) -> None:
    parts = [BARE.encode()] * count
    sealed = seal_hop(parts, sender="KOR", recipient="USA", key=KEY.public_key)
    assert open_hop(sealed, sender="KOR", recipient="USA", key=KEY) == (BARE,) * count


@pytest.mark.parametrize("count", [0, PARTS_MAX + 1])
def test_a_message_of_no_part_or_too_many_is_refused(count: int) -> None:
    parts = [BARE.encode()] * count
    sealed = seal_hop(parts, sender="KOR", recipient="USA", key=KEY.public_key)
    with pytest.raises(PeerError, match="1 to 64 parts"):
        open_hop(sealed, sender="KOR", recipient="USA", key=KEY)


# On the way


@in_world("carried")
async def test_what_is_due_at_once_goes_in_one_message_each_way(world: World) -> None:
    items = await shared(world, ROWS_MAX)
    assert await lane(world, "KOR", "USA") == 1
    assert len(messages(world, "KOR", "USA")) == 1
    await lane(world, "USA", "JPN")
    await lane(world, "JPN", "USA")
    await lane(world, "USA", "KOR")
    assert all(world["JPN"].has(item) for item in items)
    assert {world["KOR"].outgoing(item, "JPN").state for item in items} == {"delivered"}
    assert [len(messages(world, *leg)) for leg in (("USA", "JPN"), ("JPN", "USA"))] == [1, 1]


@in_world("carried", payload_bytes_max=100_000)
async def test_large_parts_are_spread_over_several_messages(world: World) -> None:
    items = await shared(world, 20, size=50_000)
    await lane(world, "KOR", "USA")
    assert 2 <= len(messages(world, "KOR", "USA")) < 20
    assert all(world["USA"].has(item) for item in items)


def _unsigned(hop: Hop) -> Hop:
    last = hop.records[-1]
    forged = replace(last, signatures=tuple(replace(s, sig=b"x" * 64) for s in last.signatures))
    return replace(hop, records=(*hop.records[:-1], forged))


@pytest.mark.parametrize("bad", [0, 3, 6])
def test_a_bad_part_costs_the_others_nothing(bad: int) -> None:
    @in_world("carried")
    async def test(world: World) -> None:
        items = await shared(world, 7)
        seen = iter(range(7))

        def alter(hop: Hop) -> Hop | None:
            is_release = any(r.payload_type == Release.type() for r in hop.records)
            return _unsigned(hop) if is_release and next(seen) == bad else None

        world.alter["KOR", "USA"] = alter
        rows, _ = world["KOR"].couriers["USA"]._best(3)
        await world["KOR"].couriers["USA"].carry(rows)
        assert [world["USA"].has(item) for item in items] == [n != bad for n in range(7)]
        states = [world["KOR"].outgoing(item, "JPN").state for item in items]
        assert states == ["ready" if n == bad else "sent" for n in range(7)]
        [waiting] = [r for r in world["KOR"].outbox("USA") if r.attempts]
        assert waiting.error == "it refused the message"
        world.alter.clear()
        await world.settle()
        assert all(world["JPN"].has(item) for item in items)  # it was only the line

    test()


@in_world("carried")
async def test_a_message_that_the_peer_chokes_on_ends_up_alone(world: World) -> None:
    """One part makes the peer hang up, whatever goes with it: the others arrive all the same."""
    items = await shared(world, 9)
    poison = items[4]
    courier = world["KOR"].couriers["USA"]
    whole = courier.calls.link.request

    async def request(method: str, path: str, body: bytes = b"", **more: Any) -> Answer:
        if path.endswith("/hop"):
            hops = world.opened("KOR", "USA", body)
            if any(record.record_id == poison for hop in hops for record in hop.records):
                raise PeerError("it hung up")
        return await whole(method, path, body, **more)

    courier.calls.link.request = request  # type: ignore[method-assign]  # the line, not our code
    for _ in range(30):
        await asyncio.sleep(1)
        await lane(world, "KOR", "USA")
    assert [world["USA"].has(item) for item in items] == [item != poison for item in items]
    assert len(world["KOR"].outbox("USA")) >= 1  # and that one waits: nothing is lost


@in_world("carried")
async def test_flash_is_in_no_message_with_routine_and_goes_first(world: World) -> None:
    routine = await shared(world, 5)
    flash = [
        await world.share(
            "KOR", "KOR:III", "JPN", topics=("automatic",), precedence="FLASH", body=b"now"
        )
    ]
    courier = world["KOR"].couriers["USA"]
    rows, _ = courier._best(3)
    assert [r.precedence for r in rows] == [0]
    await courier.carry(rows)
    assert [world["USA"].has(item) for item in [*flash, *routine]] == [True] + [False] * 5


@pytest.mark.parametrize(
    "answer",
    [
        b"{}",
        b"[]",
        b"nonsense",
        b'{"parts":[]}',
        b'{"parts":[{"status":"accepted"}]}',
        b'{"parts":[{"status":"accepted"},{"status":"perhaps"}]}',
        b'{"parts":[{"status":"accepted"},{"status":"accepted","have":-2}]}',
        b'{"parts":[{"status":"accepted"},{"status":"accepted","have":true}]}',
        b'{"parts":[{"status":"accepted"},7]}',
    ],
)
def test_an_answer_that_does_not_speak_of_each_part_loses_nothing(answer: bytes) -> None:
    @in_world("carried")
    async def test(world: World) -> None:
        items = await shared(world, 2)
        courier = world["KOR"].couriers["USA"]
        whole = courier.calls.link.request

        async def request(method: str, path: str, body: bytes = b"", **more: Any) -> Answer:
            response = await whole(method, path, body, **more)
            return Response(200, answer) if path.endswith("/hop") else response

        courier.calls.link.request = request  # type: ignore[method-assign]  # a peer that lies
        rows, _ = courier._best(3)
        with pytest.raises(PeerError):
            await courier.carry(rows)
        assert [world["KOR"].outgoing(item, "JPN").state for item in items] == ["ready"] * 2
        assert len(world["KOR"].outbox("USA")) == 2

    test()
