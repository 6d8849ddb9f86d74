"""What was not handled in time is said at the sender, once, and is over when it is handled."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

import pytest

from relto.alarms import HANDLING_S, Alarm, alarms, watch
from relto.instants import instant, moment
from relto.items import Item, Outgoing
from relto.stores import MemoryStore
from steps import sender_states
from world import START, World, in_world


def late(world: World, party: str) -> list[tuple[str, str, str]]:
    with world[party].store.read() as reader:
        return [(a.item, a.to, a.precedence) for a in alarms(reader)]


async def after(world: World, seconds: float) -> None:
    await asyncio.sleep(seconds)
    for place in world.places.values():
        await place.node.raise_alarms()


@pytest.mark.parametrize(
    ("precedence", "seconds"),
    [("FLASH", 600), ("IMMEDIATE", 1_800), ("PRIORITY", 10_800), ("ROUTINE", 21_600)],
)
def test_each_precedence_has_its_time_and_not_a_second_less(precedence: str, seconds: int) -> None:
    assert HANDLING_S[precedence] == seconds

    @in_world()
    async def test(world: World) -> None:
        item = await world.share("KOR", "KOR:II", "JPN", precedence=precedence)
        await after(world, seconds - 1)
        assert late(world, "KOR") == []
        await after(world, 1)
        assert late(world, "KOR") == [(item, "JPN", precedence)]

    test()


@in_world()
async def test_an_alarm_is_journaled_once_and_names_no_content(world: World) -> None:
    item = await world.share("KOR", "KOR:II", "JPN", precedence="FLASH", title="Launch at dawn")
    for _ in range(3):
        await after(world, 700)
    due = instant(moment(START) + timedelta(seconds=600))
    assert [{k: e[k] for k in e if k != "at"} for e in world["KOR"].journal("alarm")] == [
        {"event": "alarm", "item": item, "to": "JPN", "precedence": "FLASH", "due": due}
    ]


@in_world()
async def test_a_silent_hub_is_heard_of_at_the_maker(world: World) -> None:
    """The hub has it and says so: that is not yet the destination's receipt."""
    item = await world.share("KOR", "KOR:II", "JPN", precedence="FLASH")
    await world.approve("KOR", item, "JPN")
    await world.carry("KOR", "USA")
    await world.carry("USA", "KOR")
    assert world["KOR"].outgoing(item, "JPN").state == "with-hub"
    await after(world, 600)
    assert late(world, "KOR") == [(item, "JPN", "FLASH")]
    assert late(world, "USA") == [(item, "JPN", "FLASH")]  # the hub sends on: it is late there too
    assert late(world, "JPN") == []


@in_world()
async def test_what_is_delivered_or_refused_is_no_longer_late(world: World) -> None:
    delivered = await world.share("KOR", "KOR:II", "JPN", precedence="FLASH", body=b"one")
    declined = await world.share("KOR", "KOR:II", "JPN", precedence="FLASH", body=b"two")
    await after(world, 600)
    assert {item for item, _, _ in late(world, "KOR")} == {delivered, declined}
    await world.decline("KOR", declined, "JPN")
    await world.approve("KOR", delivered, "JPN")
    await world.carry("KOR", "USA")
    await world.approve("USA", delivered, "JPN")
    await world.settle()
    assert world["KOR"].outgoing(delivered, "JPN").state == "delivered"
    for party in world.places:
        assert late(world, party) == []


@in_world()
async def test_people_see_what_is_late_in_the_item_and_in_the_status(world: World) -> None:
    item = await world.share("KOR", "KOR:II", "JPN", precedence="FLASH")
    await after(world, 599)
    assert "late" not in (await world.asked("KOR", "GET", f"/items/{item}"))["to"][0]
    assert (await world.asked("KOR", "GET", "/status"))["late"] == []
    await after(world, 1)
    assert (await world.asked("KOR", "GET", f"/items/{item}"))["to"][0]["late"] is True
    [alarm] = (await world.asked("KOR", "GET", "/status"))["late"]
    assert alarm["item"] == item


@in_world()
async def test_an_alarm_outlives_the_process(world: World) -> None:
    item = await world.share("KOR", "KOR:II", "JPN", precedence="FLASH")
    await after(world, 300)
    await world.restart("KOR")
    await after(world, 300)
    await world.restart("KOR")
    assert late(world, "KOR") == [(item, "JPN", "FLASH")]
    assert len(world["KOR"].journal("alarm")) == 1


def test_what_is_watched_is_the_way_itself_and_not_its_place_in_the_item() -> None:
    """A store that catches up drops ways that it had begun anew, and adds what is known of them."""
    item = sender_states()["review"]
    assert item is not None
    [tokyo] = item.outgoing
    washington = replace(tokyo, proposal=replace(tokyo.proposal, to="USA", path=("KOR", "USA")))
    answering = replace(tokyo, answers="a" * 64, precedence="FLASH")
    store = MemoryStore()

    def watched(before: Item | None, *outgoing: Outgoing) -> tuple[Item, list[tuple[str, str]]]:
        after = replace(item, outgoing=outgoing)
        store.commit([lambda tx: watch(tx, before, after, START)])
        with store.read() as reader:
            rows = reader.listing("handling", limit=9)
        found = [Alarm(**json.loads(row.body)) for row in rows]
        return after, sorted((alarm.to, alarm.precedence) for alarm in found)

    both, listed = watched(None, tokyo, washington)
    assert listed == [("JPN", "PRIORITY"), ("USA", "PRIORITY")]
    one, listed = watched(both, washington)  # the first was dropped: the second moves up
    assert listed == [("USA", "PRIORITY")]
    other, listed = watched(one, answering)  # as many as before, another one
    assert listed == [("JPN", "FLASH")]
    _, listed = watched(other, replace(answering, state="delivered"))
    assert listed == []
