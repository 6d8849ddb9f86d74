"""The coalition from a seed: whatever is lost, doubled, late, cut or killed, nothing is lost or
done twice, and every rule holds after every commit.

A seed that fails is played again by `pytest "tests/test_world.py::test_...[SEED]"`.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from checkers import answer_of, check_all, check_kept_secret, items_of, watch
from relto.items import Item
from relto.links import LinkError
from relto.records import PRECEDENCES
from relto.stores.memory import Fault
from world import OFFICERS, Refusal, Weather, World

SEEDS = 60
STORM_S = 240.0
HEALING_S_MAX = 3_000.0
STEP_S = 5.0
CANARY = b"canary that nobody may see in the clear"

# maker, mark, topics, recipients: everything that the two regimes carry in some way
TISA = [
    ("KOR", "KOR:III", ("missile.launch",), ("JPN",)),
    ("KOR", "KOR:II", ("missile.launch",), ("JPN", "USA")),
    ("JPN", "JPN:HI", ("nuclear.test",), ("KOR",)),
    ("USA", "USA:C", ("missile",), ("KOR", "JPN")),
    ("KOR", "KOR:III", ("cyber",), ("USA",)),
]
CARRIED = [
    ("KOR", "KOR:II", ("reviewed",), ("JPN",)),
    ("KOR", "KOR:III", ("blind",), ("JPN",)),
    ("JPN", "JPN:HI", ("automatic",), ("KOR",)),
    ("JPN", "JPN:HI", ("passed",), ("KOR",)),
    ("USA", "USA:S", ("paired",), ("KOR", "JPN")),
]


class Play:
    """One run: people who share and review, a storm, and what is true when it is over."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.random = random.Random(seed)
        self.made: dict[str, str] = {}  # item -> maker, as the maker was told
        self.storm = True

    # people

    async def analyst(self, number: int) -> None:
        random_ = self.random
        await asyncio.sleep(random_.uniform(0, STORM_S / 2))
        kinds = TISA if self.world.regime == "tisa" else CARRIED
        maker, mark, topics, to = random_.choice(kinds)
        body = CANARY + bytes([number]) * (150_000 if random_.random() < 0.15 else 10)
        with suppress(Refusal, LinkError):
            item = await self.world.share(
                maker, mark, *to, topics=topics, precedence=random_.choice(PRECEDENCES), body=body
            )
            self.made[item] = maker

    async def officers(self, party: str) -> None:
        """Two officers who look now and then; sometimes one refuses, or signs twice."""
        while True:
            await asyncio.sleep(self.random.uniform(1, 15))
            with suppress(Refusal, LinkError):
                for review in (await self.world.asked(party, "GET", "/reviews"))["reviews"]:
                    item, to = review["id"], review["review_to"]
                    if self.random.random() < 0.08:
                        await self.world.decline(party, item, to)
                    else:
                        officer = self.random.choice(OFFICERS[party])
                        await self.world.approve(party, item, to, officer)

    async def director(self, party: str) -> None:
        """A hold now and then, and its lifting."""
        while self.storm:
            await asyncio.sleep(self.random.uniform(20, 100))
            to = self.random.choice([p for p in OFFICERS if p != party])
            for on in (True, False):
                while not await self._holds(party, to, on=on):
                    await asyncio.sleep(5)
                await asyncio.sleep(self.random.uniform(5, 60))

    async def _holds(self, party: str, to: str, *, on: bool) -> bool:
        try:
            await self.world.hold(party, to, on=on)
        except (Refusal, LinkError):
            return False
        return True

    # the storm

    async def supervisor(self) -> None:
        """What restarts a node that has died, and what the node does every half minute."""
        while True:
            await asyncio.sleep(self.random.uniform(0.1, 20) if self.storm else 1.0)
            for place in self.world.places.values():
                if place.is_up:
                    with suppress(LinkError):
                        await place.work(place.node.find_room())
                elif not self.storm or self.random.random() < 0.5:
                    await place.restarted()

    async def kills(self) -> None:
        while self.storm:
            await asyncio.sleep(self.random.expovariate(1 / 25))
            self.world[self.random.choice(list(OFFICERS))].crash()

    async def cuts(self) -> None:
        while self.storm:
            await asyncio.sleep(self.random.expovariate(1 / 30))
            link = frozenset(self.random.choice([("KOR", "USA"), ("JPN", "USA")]))
            self.world.cut.add(link)
            await asyncio.sleep(self.random.uniform(1, 60))
            self.world.cut.discard(link)

    def fault(self, party: str) -> Fault | None:
        if self.storm and self.random.random() < 0.01:
            return self.random.choice(list(Fault))
        return None

    async def run(self) -> None:
        world, random_ = self.world, self.random
        for place in world.places.values():
            place.clock.wrong_by_s = random_.choice([0.0, random_.uniform(-20, 20)])
        world.plan_fault = self.fault
        world.slow_commit_s = 0.05
        world.weather = Weather(
            request_lost=random_.choice([0.0, 0.1, 0.3]),
            answer_lost=random_.choice([0.0, 0.1, 0.3]),
            duplicated=random_.choice([0.0, 0.2]),
            delay_s_max=random_.choice([0.05, 2.0, 4.0]),
        )
        analysts = [world.spawn(self.analyst(number)) for number in range(6)]
        going = [self.supervisor(), self.kills(), self.cuts()]
        going += [self.officers(party) for party in OFFICERS]
        if random_.random() < 0.3:
            going.append(self.director(random_.choice(list(OFFICERS))))
        for task in going:
            world.spawn(task)
        await asyncio.sleep(STORM_S)
        self.storm = False
        world.weather = Weather(delay_s_max=0.05)
        for place in world.places.values():
            place.clock.wrong_by_s = 0.0
        await asyncio.wait(analysts)
        for _ in range(int(HEALING_S_MAX / STEP_S)):
            await asyncio.sleep(STEP_S)
            world.raise_faults()
            if not world.cut and self.is_quiet():
                return
        raise AssertionError(f"not quiet: {self.what_is_open()}")

    # afterwards

    def is_quiet(self) -> bool:
        return not self.what_is_open()

    def what_is_open(self) -> list[str]:
        found = []
        for party, place in self.world.places.items():
            if not place.is_up:
                found.append(f"{party} is down")
            for row in place.outbox():
                found.append(f"{party} owes {row.peer} {row.body[:90]!r} {row.error}")
            for item in items_of(place.store.state).values():
                found += [
                    f"{item.id[:8]} at {party} to {o.proposal.to}: {o.state}"
                    for o in item.outgoing
                    if o.is_open
                ]
        return found

    def check(self) -> None:
        """Each item is at each of its recipients once, or was refused by a signed word."""
        everywhere = {p: items_of(place.store.state) for p, place in self.world.places.items()}
        for item_id, maker in self.made.items():
            assert item_id in everywhere[maker], "an item that was accepted is lost"
        for maker, items in everywhere.items():
            for item in items.values():
                if item.made_here:
                    self._check_item(maker, item, everywhere)
        for party, items in everywhere.items():
            for item in items.values():
                assert item.made_here or item.id in everywhere[item.manifest.maker]
                self._check_once(party, item)

    def _check_item(self, maker: str, item: Item, everywhere: dict[str, dict[str, Item]]) -> None:
        trust = self.world[maker].node.trust
        payload = self.world[maker].node.contents.payload(item)
        for outgoing in item.outgoing:
            to = outgoing.proposal.to
            there = everywhere[to].get(item.id)
            if outgoing.state == "declined":
                continue
            assert outgoing.state == answer_of(trust, item, outgoing)
            if outgoing.state == "delivered":
                assert there is not None
                assert self.world[to].node.contents.payload(there) == payload
            else:
                assert there is None or there.state in ("received", "refused")

    def _check_once(self, party: str, item: Item) -> None:
        held = Counter(
            e["release"] for e in self.world[party].journal("held") if e["item"] == item.id
        )
        assert set(held) == {i.id for i in item.incoming if i.state == "held"}
        assert set(held.values()) <= {1}


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_happens_each_item_arrives_once_or_is_refused_with_a_signed_reason(
    seed: int,
) -> None:
    regime = "tisa" if seed % 2 else "carried"
    with World(regime, seed=seed, lanes=True) as world:
        watch(world)
        play = Play(world, seed)
        world.run(play.run())
        play.check()
        check_all(world)
        check_kept_secret(world, CANARY)


# Every moment at which a process can die, one after the other


async def _one_item(world: World, topic: str) -> str:
    """An item by way of the hub, by people who try again until they are heard."""

    async def insist(what: Callable[[], Awaitable[None]], done: Callable[[], bool]) -> None:
        for _ in range(60):
            for place in world.places.values():
                await place.restarted()
            if done():
                return
            with suppress(Refusal, LinkError):
                await what()
            await asyncio.sleep(2)
        raise AssertionError("people gave up")

    def ours() -> list[Item]:
        return [i for i in world["KOR"].items() if i.made_here]

    async def share() -> None:
        await world.share("KOR", "KOR:III", "JPN", topics=(topic,), body=CANARY)

    await insist(share, lambda: bool(ours()))
    item = ours()[0].id
    reviewers = {"reviewed": ("KOR", "USA"), "blind": ("KOR",), "automatic": ()}[topic]
    for party in reviewers:

        async def approve(party: str = party) -> None:
            await world.approve(party, item, "JPN")

        def is_approved(party: str = party) -> bool:
            return world[party].has(item) and any(
                o.release is not None for o in world[party].item(item).outgoing
            )

        await insist(approve, is_approved)
    await insist(
        lambda: asyncio.sleep(20),
        lambda: (
            world["KOR"].outgoing(item, "JPN").state == "delivered"
            and not any(place.outbox() for place in world.places.values())
        ),
    )
    return item


def _plays_with_a_death(topic: str, moment: int | None, fault: Fault) -> int:
    """One item's way, with one death at the given commit of all; how many commits there were."""
    count = 0
    with World("carried", seed=1, lanes=True) as world:

        def plan(party: str) -> Fault | None:
            nonlocal count
            count += 1
            return fault if count == moment else None

        world.plan_fault = plan
        watch(world)
        item = world.run(_one_item(world, topic))
        assert world["JPN"].node.contents.payload(world["JPN"].item(item)).body == CANARY
        assert [len(world[p].journal("held")) for p in ("USA", "JPN")] == [1, 1]
        check_all(world)
        check_kept_secret(world, CANARY)
    return count


@pytest.mark.parametrize("fault", [Fault.FAILED, Fault.PERSISTED])
@pytest.mark.parametrize("topic", ["reviewed", "blind", "automatic"])
def test_a_death_at_any_commit_loses_nothing_and_repeats_nothing(topic: str, fault: Fault) -> None:
    """F-01: what the commit did is unknown to whoever dies; the next process settles it."""
    commits = _plays_with_a_death(topic, None, fault)
    assert commits > 10
    for moment in range(1, commits + 1):
        _plays_with_a_death(topic, moment, fault)
