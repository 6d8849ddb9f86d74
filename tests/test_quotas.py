"""What one peer may have of a node, on both sides of each limit; others notice none of it."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from relto.backlog import WAITING_MIN
from relto.calls import Said
from relto.config import Quota
from relto.courier import OTHERS_S
from relto.errors import PeerError
from relto.links import Request, Response
from relto.quotas import (
    LATELY_MS,
    PACE_BYTES,
    REQUESTS_AT_ONCE,
    REQUESTS_PER_S,
    REST_MS_MAX,
    REST_ROWS,
    TOLD_MS,
    kept_of,
)
from world import Place, Refusal, World, in_world, keys_of

LARGE = bytes(100_000)  # more than rides in a message


async def given(world: World, body: bytes = b"seen", **options: Any) -> str:
    """An item of Seoul's for Tokyo, released without a review by way of Washington."""
    return await world.share("KOR", "KOR:III", "JPN", topics=("passed",), body=body, **options)


def states(world: World, items: list[str]) -> list[str]:
    """Where each of Seoul's items stands, as Seoul knows it."""
    return [world["KOR"].outgoing(item, "JPN").state for item in items]


def half_sent(place: Place) -> list[str]:
    return sorted(key for kind, key in place.store.state.documents if kind == "receiving")


def told(place: Place) -> list[tuple[str, str]]:
    """By journal: who reached which limit."""
    return [(e["peer"], e["limit"]) for e in place.journal("limit-reached")]


async def pass_s(world: World, seconds: float) -> None:
    await asyncio.sleep(seconds)  # virtual time


# Half-sent transfers


@in_world("carried", quota=Quota(transfers_max=2))
async def test_a_peer_has_as_many_half_sent_transfers_as_its_limit_and_no_more(
    world: World,
) -> None:
    world.loses = lambda path: "/ciphertext/" in path
    items = [await given(world, LARGE, title=str(n)) for n in range(3)]
    await world.carry("KOR", "USA")
    assert len(half_sent(world["USA"])) == 2
    assert not world["USA"].has(items[2])
    assert told(world["USA"]) == [("KOR", "transfers")]
    world.loses = lambda path: False
    await world.settle()
    assert states(world, items) == ["delivered"] * 3


@in_world("carried", quota=Quota(transfers_max=2))
async def test_a_large_flash_has_a_place_beyond_that_limit(world: World) -> None:
    world.loses = lambda path: "/ciphertext/" in path
    for n in range(2):
        await given(world, LARGE, title=str(n))
    await world.carry("KOR", "USA")
    urgent = [await given(world, LARGE, precedence="FLASH", title=f"now {n}") for n in range(2)]
    await world.carry("KOR", "USA")
    assert len(half_sent(world["USA"])) == 3
    assert [world["USA"].has(item) for item in urgent] == [True, False]


@in_world("carried", quota=Quota(transfer_bytes_max=250_000))
async def test_the_stated_sizes_of_half_sent_transfers_have_a_limit(world: World) -> None:
    world.loses = lambda path: "/ciphertext/" in path
    items = [await given(world, LARGE, title=str(n)) for n in range(3)]
    await world.carry("KOR", "USA")
    assert [world["USA"].has(item) for item in items] == [True, True, False]
    assert told(world["USA"]) == [("KOR", "transfer-bytes")]
    world.loses = lambda path: False
    await world.settle()
    assert states(world, items) == ["delivered"] * 3


@in_world("carried", quota=Quota(transfer_bytes_max=1))
async def test_a_peers_only_transfer_always_has_a_place(world: World) -> None:
    item = await given(world, LARGE)
    await world.settle()
    assert states(world, [item]) == ["delivered"]


async def _half_sent(world: World) -> tuple[str, str]:
    """An item of which one range of two has come; with its release."""
    item = await given(world, LARGE)
    world.loses = lambda path: "/ciphertext/" in path
    await world.carry("KOR", "USA")
    [release] = half_sent(world["USA"])
    await world.post_bytes(
        "KOR", "USA", b"x" * 10, path=f"/relto/v1/ciphertext/{release}", query="offset=0"
    )
    world.loses = lambda path: False
    return item, release


@in_world("carried", quota=Quota(transfer_idle_s=100))
async def test_a_half_sent_transfer_is_given_up_after_its_time_and_not_before(
    world: World,
) -> None:
    hub = world["USA"]
    item, release = await _half_sent(world)
    await pass_s(world, 99)
    await hub.peering.expire_transfers()
    assert half_sent(hub) == [release]
    assert hub.store.blob_size(release) == 10
    await pass_s(world, 1)
    await hub.peering.expire_transfers()
    assert half_sent(hub) == []
    assert hub.store.blob_names() == []
    assert hub.journal("transfer-expired") == [
        {**entry, "item": item, "release": release, "peer": "KOR"}
        for entry in hub.journal("transfer-expired")
    ]
    assert len(hub.journal("transfer-expired")) == 1
    await hub.peering.expire_transfers()
    assert len(hub.journal("transfer-expired")) == 1


@in_world("carried", quota=Quota(transfer_idle_s=100))
async def test_what_was_given_up_comes_again_from_its_sender_and_is_whole(world: World) -> None:
    item, _ = await _half_sent(world)
    await pass_s(world, 100)
    await world["USA"].peering.expire_transfers()
    for _ in range(3):
        await world.settle()
    assert states(world, [item]) == ["delivered"]
    assert world["JPN"].node.contents.payload(world["JPN"].item(item)).body == LARGE


@in_world("carried", quota=Quota(transfer_idle_s=100))
async def test_a_range_or_a_new_process_gives_a_transfer_its_time_anew(world: World) -> None:
    _, release = await _half_sent(world)
    await pass_s(world, 99)
    await world.post_bytes(
        "KOR", "USA", b"x" * 20, path=f"/relto/v1/ciphertext/{release}", query="offset=0"
    )
    await pass_s(world, 99)
    await world["USA"].peering.expire_transfers()
    assert half_sent(world["USA"]) == [release]
    await world.restart("USA")
    await world["USA"].peering.expire_transfers()
    await pass_s(world, 99)
    await world["USA"].peering.expire_transfers()
    assert half_sent(world["USA"]) == [release]
    await pass_s(world, 1)
    await world["USA"].peering.expire_transfers()
    assert half_sent(world["USA"]) == []


# What is kept of a peer


@in_world("carried", quota=Quota(items_max=8))
async def test_as_many_releases_of_a_peer_are_kept_as_its_limit_and_flash_an_eighth_more(
    world: World,
) -> None:
    items = [await given(world, title=str(n)) for n in range(9)]
    await world.settle()
    assert states(world, items) == ["delivered"] * 8 + ["ready"]
    urgent = [await given(world, precedence="FLASH", title=f"now {n}") for n in range(2)]
    await world.settle()
    assert states(world, urgent) == ["delivered", "ready"]
    assert told(world["USA"]) == [("KOR", "items")]
    assert world["KOR"].outbox("USA")[0].error == "answered 503; it takes it later"


@in_world("carried")
async def test_the_bytes_kept_of_a_peer_have_a_limit(world: World) -> None:
    hub = world["USA"]
    await given(world, LARGE)
    await given(world, b"small")
    await world.settle()
    with hub.store.read() as reader:
        kept = kept_of(reader, "KOR")
    assert kept.items == 2
    assert 100_000 < kept.size_bytes < 150_000
    for limit, expected in ((kept.size_bytes + 20_000, "delivered"), (kept.size_bytes, "ready")):
        hub.node.quotas.quota = Quota(bytes_max=limit)
        item = await given(world, title=expected)
        await world.settle()
        assert states(world, [item]) == [expected]
    assert told(hub) == [("KOR", "bytes")]


@in_world("carried", quota=Quota(items_max=1))
async def test_what_was_taken_before_is_answered_again_beyond_the_limit(world: World) -> None:
    await given(world)
    await world.carry("KOR", "USA")
    [message] = [s.hop for s in world.sights if s.path.endswith("/hop") and s.sender == "KOR"]
    assert message is not None
    assert await world.post("KOR", "USA", message) == 200
    with world["USA"].store.read() as reader:
        assert kept_of(reader, "KOR").items == 1


@in_world("carried", quota=Quota(items_max=1))
async def test_one_peers_limit_is_not_anothers(world: World) -> None:
    for n in range(2):
        await given(world, title=str(n))
    await world.settle()
    item = await world.share("JPN", "JPN:HI", "KOR", topics=("passed",))
    await world.settle()
    assert world["JPN"].outgoing(item, "KOR").state == "delivered"


# Requests at work


def _asking(world: World, peer: str, path: str = "/relto/v1/node-key/USA") -> Request:
    return Request("GET", path, "", b"", keys_of(peer).tls)


@in_world("carried", quota=Quota(requests_max=2))
async def test_more_requests_at_work_than_the_limit_are_asked_to_come_back(world: World) -> None:
    hub = world["USA"]
    go = asyncio.Event()

    async def slow(peer: str, request: Request) -> Response:
        await go.wait()
        return Response(200, b"{}")

    hub.peering._route = slow  # type: ignore[method-assign]
    two = [asyncio.create_task(hub.peering.handle(_asking(world, "KOR"))) for _ in range(2)]
    await asyncio.sleep(0)
    third = await hub.peering.handle(_asking(world, "KOR"))
    assert (third.status, third.body) == (503, b'{"after_s":1,"status":"retry"}')
    other = asyncio.create_task(hub.peering.handle(_asking(world, "JPN")))
    await asyncio.sleep(0)
    go.set()
    assert [(await task).status for task in (*two, other)] == [200, 200, 200]
    assert (await hub.peering.handle(_asking(world, "KOR"))).status == 200
    assert told(hub) == [("KOR", "requests")]


@in_world("carried")
async def test_a_peer_that_asks_too_fast_is_answered_later_and_others_are_not(
    world: World,
) -> None:
    async def answered_after_s(peer: str) -> float:
        start = world.loop.time()
        response = await world["USA"].peering.handle(_asking(world, peer))
        assert response.status == 200
        return world.loop.time() - start

    await pass_s(world, 10)
    at_once = [await answered_after_s("KOR") for _ in range(REQUESTS_AT_ONCE)]
    assert max(at_once) == 0
    late = [await answered_after_s("KOR") for _ in range(100)]
    assert sum(late) == pytest.approx(100 / REQUESTS_PER_S, abs=0.01)
    assert await answered_after_s("JPN") == 0


@in_world("carried")
async def test_a_large_request_counts_as_several(world: World) -> None:
    await pass_s(world, 10)
    quotas = world["USA"].node.quotas
    now_s = [quotas.wait_s("KOR", PACE_BYTES * n) for n in (REQUESTS_AT_ONCE - 1, 0, 9)]
    assert now_s == [0, 1 / REQUESTS_PER_S, pytest.approx(11 / REQUESTS_PER_S)]


@in_world("carried")
async def test_messages_of_one_peer_take_turns_with_a_rest_between_and_others_do_not_wait(
    world: World,
) -> None:
    quotas = world["USA"].node.quotas

    async def began_ms(peer: str, precedence: int, backlog: int = 0) -> int:
        """When its message is worked on, for 100 ms."""
        async with quotas.lane(peer, precedence, lambda: backlog):
            began = world.loop.time()
            await asyncio.sleep(0.1)
        return round((began - start) * 1000)

    await pass_s(world, 10)
    start = world.loop.time()
    found = await asyncio.gather(
        began_ms("KOR", 3), began_ms("KOR", 3), began_ms("KOR", 2), began_ms("KOR", 3),  # a lane
        began_ms("KOR", 1), began_ms("KOR", 1),  # that of what is urgent
        began_ms("KOR", 0), began_ms("KOR", 0),  # FLASH
        began_ms("JPN", 3),
    )  # fmt: skip
    # Two messages without a rest, since it sent nothing for `CREDIT_MS`.
    assert found == pytest.approx([0, 100, 200, 400, 0, 100, 0, 0, 0], abs=3)
    await pass_s(world, 10)
    start = world.loop.time()
    backlogs = [REST_ROWS, 1_000_000, 0, 0]
    rests = await asyncio.gather(*(began_ms("KOR", 3, backlog) for backlog in backlogs))
    # Nobody else came lately: only for what waits to go on.
    assert rests == pytest.approx([0, 100, 200 + REST_MS_MAX, 300 + REST_MS_MAX], abs=3)


@in_world("carried")
async def test_within_a_long_message_a_peer_rests_too_and_for_flash_nothing_does(
    world: World,
) -> None:
    quotas = world["USA"].node.quotas

    async def work(precedence: int) -> list[int]:
        """When each of four pieces of a message begins, which take 100 ms."""
        began = []
        async with quotas.lane("KOR", precedence, lambda: 0) as pause:
            for _ in range(4):
                began.append(round((world.loop.time() - start) * 1000))
                await asyncio.sleep(0.1)
                await pause()
        return began

    await pass_s(world, 10)
    start = world.loop.time()
    assert await work(3) == pytest.approx([0, 100, 200, 300], abs=3)
    async with quotas.lane("JPN", 3, lambda: 0):
        pass
    start = world.loop.time()
    assert await work(3) == pytest.approx([0, 100, 200, 400], abs=3)
    start = world.loop.time()
    assert await work(0) == pytest.approx([0, 100, 200, 300], abs=3)
    await pass_s(world, LATELY_MS / 1000)
    start = world.loop.time()
    assert await work(3) == pytest.approx([0, 100, 200, 300], abs=3)


@in_world("carried")
async def test_what_waits_to_go_on_counts_for_the_peer_that_brought_it(world: World) -> None:
    hub = world["USA"].peering
    for n in range(3):
        await given(world, title=str(n))
    await world.carry("KOR", "USA")
    assert (hub._backlog("KOR", 3), hub._backlog("KOR", 1), hub._backlog("JPN", 3)) == (3, 0, 0)
    world["USA"].couriers["JPN"].calls.error = "not reached"
    assert hub._backlog("KOR", 3) == 0  # it waits for Tokyo, and not for us
    world["USA"].couriers["JPN"].calls.error = ""
    await world.settle()
    assert hub._backlog("KOR", 3) == 0


@in_world("carried")
async def test_a_peer_that_gives_no_key_is_called_and_not_tried_row_by_row(world: World) -> None:
    seoul = world["KOR"].couriers["USA"]
    seoul.calls.forget_keys()

    def none(party: str) -> Response:
        raise PeerError("no key today")

    world["USA"].peering._node_key = none  # type: ignore[method-assign]
    await given(world)
    await world.carry("KOR", "USA")
    assert seoul.calls.error == "it gives no key of its own: 400"
    assert not await seoul._is_back()


# FLASH


def urgencies(world: World, sender: str, receiver: str) -> list[int]:
    return [row.precedence for row in world[sender].outbox(receiver)]


@in_world("carried", quota=Quota(flash_per_minute=2))
async def test_flash_beyond_its_budget_is_taken_and_worked_on_as_immediate(world: World) -> None:
    items = [await given(world, precedence="FLASH", title=str(n)) for n in range(4)]
    await world.carry("KOR", "USA")
    assert [world["USA"].has(item) for item in items] == [True] * 4
    assert urgencies(world, "USA", "JPN") == [0, 0, 1, 1]
    assert told(world["USA"]) == [("KOR", "flash")]
    await world.settle()
    assert states(world, items) == ["delivered"] * 4
    await pass_s(world, 29)
    later = await given(world, precedence="FLASH", title="later")
    await world.carry("KOR", "USA")
    assert urgencies(world, "USA", "JPN") == [1]
    await pass_s(world, 2)
    again = await given(world, precedence="FLASH", title="again")
    await world.carry("KOR", "USA")
    assert sorted(urgencies(world, "USA", "JPN")) == [0, 1]
    await world.settle()
    assert states(world, [later, again]) == ["delivered"] * 2


@in_world("carried", quota=Quota(flash_per_minute=1))
async def test_flash_that_comes_again_spends_nothing_and_goes_before_nothing(world: World) -> None:
    await given(world, precedence="FLASH")
    await world.carry("KOR", "USA")
    [message] = [s.hop for s in world.sights if s.path.endswith("/hop") and s.sender == "KOR"]
    assert message is not None
    await pass_s(world, 60)
    assert await world["USA"].peering._precedence("KOR", message) == 1
    assert world["USA"].node.quotas.is_flash("KOR", "KOR")
    assert told(world["USA"]) == []


@in_world("carried", quota=Quota(flash_per_minute=2))
async def test_a_large_flash_beyond_its_budget_goes_on_as_immediate(world: World) -> None:
    for n in range(3):
        await given(world, LARGE, precedence="FLASH", title=str(n))
    for _ in range(3):
        await world.carry("KOR", "USA")
    assert sorted(urgencies(world, "USA", "JPN")) == [0, 0, 1]


@in_world("carried", quota=Quota(flash_per_minute=1))
async def test_who_is_passed_on_does_not_spend_the_hubs_own_budget(world: World) -> None:
    """Seoul's flood is Seoul's at Tokyo too, though Washington brings it."""
    at_tokyo = world["JPN"].node.quotas
    for n in range(5):
        await given(world, precedence="FLASH", title=str(n))
    await world.settle()
    assert not at_tokyo.is_flash("USA", "KOR")
    assert at_tokyo.is_flash("USA", "USA")


@in_world("carried", quota=Quota(flash_per_minute=1))
async def test_officers_see_who_goes_over_its_budget_once_in_ten_minutes(world: World) -> None:
    async def flood() -> None:
        for _ in range(3):
            await given(world, precedence="FLASH", title=str(world.loop.time()))
            await world.carry("KOR", "USA")
            await pass_s(world, 1)

    await flood()
    await pass_s(world, TOLD_MS / 1000 - 10)
    await flood()
    assert told(world["USA"]) == [("KOR", "flash")]
    await pass_s(world, 20)
    await flood()
    assert told(world["USA"]) == [("KOR", "flash")] * 2


@in_world("carried", quota=Quota(flash_per_minute=1))
async def test_on_a_full_disk_flash_beyond_its_budget_waits(world: World) -> None:
    """The reserve is for warnings, not for who calls everything one."""
    world["USA"].store.release_ballast()
    items = [await given(world, precedence="FLASH", title=str(n)) for n in range(2)]
    await world.settle()
    assert states(world, items) == ["delivered", "ready"]
    await world["USA"].node.find_room()
    await world.settle()
    assert states(world, items) == ["delivered", "delivered"]


# Too much for everyone


def let_wait(world: World, party: str, messages: int) -> None:
    """As if `outbox_messages_max` were that."""
    node = world[party].node
    node.config = replace(node.config, outbox_messages_max=messages)


@in_world("carried")
async def test_with_too_much_in_the_outbox_our_own_people_are_told_so_but_for_what_is_urgent(
    world: World,
) -> None:
    let_wait(world, "KOR", 2)
    items = [await given(world, title=str(n)) for n in range(2)]
    with pytest.raises(Refusal) as caught:
        await given(world, title="one more")
    assert caught.value.status == 503
    assert caught.value.answer["error"].startswith("2 messages wait to be sent; come back later")
    with pytest.raises(Refusal):
        await given(world, title="one more", precedence="PRIORITY")
    try:
        urgent = [await given(world, precedence=p) for p in ("IMMEDIATE", "FLASH")]
    except Refusal:
        pytest.fail("what is urgent is not taken")
    await world.settle()
    assert states(world, [*items, *urgent]) == ["delivered"] * 4
    later = await given(world, title="one more")
    await world.settle()
    assert states(world, [later]) == ["delivered"]


@pytest.mark.parametrize("precedence", ["FLASH", "IMMEDIATE"])
def test_while_flash_is_at_work_at_a_node_all_else_rests_there(precedence: str) -> None:
    async def test(world: World) -> None:
        await given(world, title="they know each other")
        await world.settle()
        rests: dict[str, bool] = {}

        def see(what: str) -> None:
            """The first time of each."""
            rests.setdefault(what, world[what[:3]].writer.is_resting)

        def loses(path: str) -> bool:
            if path.endswith("/hop"):
                see("KOR sends")
            return False

        world.loses = loses
        world.watchers.append(lambda place, before: see(f"{place.party} commits"))
        await given(world, precedence=precedence)
        await world.settle()
        is_flash = precedence == "FLASH"
        assert rests == {
            "KOR commits": is_flash,
            "KOR sends": is_flash,
            "USA commits": is_flash,
            "JPN commits": is_flash,
        }
        assert not any(world[party].writer.is_resting for party in ("KOR", "USA", "JPN"))

    with World("carried", lanes=True) as world:
        world.run(test(world))


@in_world("carried", lanes=True)
async def test_while_a_peer_takes_less_than_waits_for_it_only_what_is_urgent_is_taken(
    world: World,
) -> None:
    await given(world, title="they know each other")
    await world.settle()
    let_wait(world, "USA", 0)  # it answers that there is no place for now
    backlog = world["KOR"].couriers["USA"].backlog
    items = [await given(world, title="is sent at once")]
    await pass_s(world, 0.1)
    for number in range(WAITING_MIN):
        backlog.add(-number)  # as if so many were in the outbox
    items += [await given(world, title="waits")]
    with pytest.raises(Refusal) as caught:
        await given(world, title="one more")
    assert caught.value.status == 503
    said = "more waits to be sent to JPN than went in the last 20 seconds; come back later"
    assert caught.value.answer["error"] == said
    with pytest.raises(Refusal):
        await given(world, title="one more", precedence="PRIORITY")
    try:
        items += [await given(world, precedence=p) for p in ("IMMEDIATE", "FLASH")]
    except Refusal:
        pytest.fail("what is urgent is not taken")
    let_wait(world, "USA", 1_000)
    await world.settle()
    assert states(world, items) == ["delivered"] * 4
    assert len(backlog) == WAITING_MIN


@in_world("carried", lanes=True)
async def test_what_waits_for_a_peer_that_is_not_reached_or_under_a_hold_stops_nobody(
    world: World,
) -> None:
    courier = world["KOR"].couriers["USA"]
    for number in range(WAITING_MIN):
        courier.backlog.add(-number)
    world.cut = {frozenset(("KOR", "USA"))}
    try:
        items = [await given(world, title=str(n)) for n in range(3)]
        await world.settle()
        items += [await given(world, title="taken all the same") for n in range(3)]
    except Refusal:
        pytest.fail("a peer that is not reached stops our people")
    world.cut = set()
    await world.settle()
    assert states(world, items) == ["delivered"] * 6
    assert len(courier.backlog) == WAITING_MIN
    await world.hold("KOR", "JPN", on=True)
    blocked = [await given(world, title=f"blocked {n}") for n in range(3)]
    assert len(courier.backlog) == WAITING_MIN
    await world.hold("KOR", "JPN", on=False)
    await world.settle()
    assert states(world, blocked) == ["delivered"] * 3


@pytest.mark.parametrize(
    ("precedence", "urgency"), [("FLASH", 0), ("IMMEDIATE", 1), ("ROUTINE", 1)]
)
def test_a_receipt_does_not_wait_behind_releases_that_are_not_urgent(
    precedence: str, urgency: int
) -> None:
    """Or its sender asks again before it comes, and the queues grow by themselves."""

    async def test(world: World) -> None:
        await given(world, precedence=precedence)
        await world.carry("KOR", "USA")
        assert urgencies(world, "USA", "KOR") == [urgency]

    with World("carried") as world:
        world.run(test(world))


@in_world("carried")
async def test_a_hub_with_too_much_in_its_outbox_takes_what_is_for_itself_and_what_is_urgent(
    world: World,
) -> None:
    let_wait(world, "USA", 1)
    items = [await given(world, title=str(n)) for n in range(3)]
    world.cut = {frozenset(("JPN", "USA"))}
    await world.carry("KOR", "USA")
    assert [world["USA"].has(item) for item in items] == [True, False, False]
    urgent = await given(world, precedence="IMMEDIATE")
    await world.carry("KOR", "USA")
    assert world["USA"].has(urgent)
    world.cut = set()
    for _ in range(3):
        await world.settle()
    assert states(world, [*items, urgent]) == ["delivered"] * 4


# Being told to come back


@in_world("carried")
async def test_a_sender_comes_back_when_it_was_told_to_and_flash_goes_meanwhile(
    world: World,
) -> None:
    seoul = world["KOR"].couriers["USA"]
    for n in range(3):
        await given(world, title=str(n))
    world["USA"].node.quotas.quota = Quota(requests_max=1)
    with world["USA"].node.quotas.at_work("KOR"):
        await seoul.carry(world["KOR"].outbox("USA")[:1])
    [first, *others] = world["KOR"].outbox("USA")
    assert first.error == "answered 503; it takes it later"
    assert first.attempts == 0  # nothing is wrong with it: it goes with the others again
    assert 1_000 <= first.due_ms - world["KOR"].clock.monotonic_ms() <= 1_250
    assert seoul._best(3) == ([], OTHERS_S)
    urgent = await given(world, precedence="FLASH", title="now")
    assert [row.subject for row in seoul._best(1)[0]] == [urgent]
    await seoul.carry(seoul._best(1)[0])
    await pass_s(world, 1)
    assert [row.number for row in seoul._best(3)[0]] == [row.number for row in others]


@pytest.mark.parametrize(
    ("body", "after_s"),
    [
        (b'{"status":"retry"}', 0),  # an earlier version
        (b'{"after_s":7,"status":"retry"}', 7),
        (b'{"after_s":300,"status":"retry"}', 300),
        (b'{"after_s":301,"status":"retry"}', 300),
        (b'{"after_s":-1,"status":"retry"}', 0),
        (b'{"after_s":"7","status":"retry"}', 0),
        (b"later", 0),
    ],
)
def test_nobody_makes_us_wait_for_longer_than_five_minutes(body: bytes, after_s: int) -> None:
    assert Said.by_status(Response(503, body)).after_s == after_s


# People see it


@in_world("carried", quota=Quota(items_max=1))
async def test_a_nodes_status_says_what_each_peer_has_and_which_limits_it_reached(
    world: World,
) -> None:
    for n in range(2):
        await given(world, title=str(n))
    await world.settle()
    status = json.loads((await world.ask("USA", "GET", "/status")).body)
    seen = {peer["party"]: peer for peer in status["peers"]}
    assert seen["KOR"]["kept"]["items"] == 1
    assert seen["KOR"]["limits"] == ["items"]
    assert seen["JPN"]["kept"] == {"bytes": 0, "items": 0}
    assert seen["JPN"]["limits"] == []
    await pass_s(world, TOLD_MS / 1000)
    assert world["USA"].node.quotas.reached_lately("KOR") == []


# What was accepted, and has no result


async def offered_after_s(world: World, times: int) -> list[float]:
    """How long Seoul waits each time that it offers what Washington has accepted."""
    found: list[float] = []
    for _ in range(times):
        await world.carry("KOR", "USA")
        [row] = world["KOR"].outbox("USA")
        wait_s = (row.due_ms - world["KOR"].node.clock.monotonic_ms()) / 1000
        found.append(round(wait_s))
        await pass_s(world, wait_s)
    return found


@in_world("carried")
async def test_what_has_no_result_is_offered_again_after_twice_as_long_to_five_minutes(
    world: World,
) -> None:
    seoul = world["KOR"].couriers["USA"]
    seoul.node.carriers["USA"] = seoul
    item = await given(world)
    assert await offered_after_s(world, 6) == [30, 60, 120, 240, 300, 300]
    seoul._calls_failed = 1  # the link was down
    assert await seoul._is_back()
    assert await offered_after_s(world, 2) == [30, 60]
    await world.carry("USA", "KOR")  # the hub's receipt
    assert states(world, [item]) == ["with-hub"]
    assert await offered_after_s(world, 2) == [300, 300]
    await world.settle()
    assert states(world, [item]) == ["delivered"]
    assert seoul._offered == {}
