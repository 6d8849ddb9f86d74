"""What a node sees of its peers: reached or why not, their clock, the agreements held alike."""

import asyncio
from typing import Any

from relto.errors import PeerError
from relto.links import Request, Response
from relto.peering import Peering
from world import World, in_world


async def seen(world: World, party: str) -> dict[str, Any]:
    peers = (await world.asked(party, "GET", "/sightings"))["peers"]
    return {peer.pop("party"): peer for peer in peers}


@in_world()
async def test_a_peer_that_is_well_holds_the_agreements_alike(world: World) -> None:
    for party, others in (("KOR", ["USA"]), ("JPN", ["USA"]), ("USA", ["JPN", "KOR"])):
        found = await seen(world, party)
        assert sorted(found) == others
        for peer in found.values():
            assert peer["differences"] == []
            assert abs(peer["offset_s"]) <= 1
            assert "error" not in peer


@in_world()
async def test_a_peer_that_is_down_is_told_with_its_reason(world: World) -> None:
    world["USA"].crash()
    assert await seen(world, "KOR") == {"USA": {"error": "connection refused"}}
    await world.restart("USA")
    assert (await seen(world, "KOR"))["USA"]["differences"] == []


@in_world()
async def test_a_peers_clock_is_compared(world: World) -> None:
    for ahead_s in (90, -90):
        world["USA"].clock.offset_s += ahead_s
        found = await seen(world, "KOR")
        world["USA"].clock.offset_s -= ahead_s
        assert abs(found["USA"]["offset_s"] - ahead_s) <= 1


class Older(Peering):
    """A node from before peers compared their agreements."""

    async def _route(self, peer: str, request: Request) -> Response:
        if request.path == "/relto/v1/agreements":
            raise PeerError("no such request")
        return await super()._route(peer, request)


@in_world()
async def test_an_older_peer_is_reached_and_not_compared(world: World) -> None:
    place = world["USA"]
    place.peering = Older(place.node, place.couriers)
    assert await seen(world, "KOR") == {"USA": {}}


class Odd(Peering):
    """A node that answers what nobody asked."""

    async def _route(self, peer: str, request: Request) -> Response:
        return Response(200, b'{"agreements":{},"at":"soon"}')


@in_world()
async def test_an_odd_answer_is_told_and_does_not_hide_the_others(world: World) -> None:
    place = world["KOR"]
    place.peering = Odd(place.node, place.couriers)
    found = await seen(world, "USA")
    assert found["KOR"] == {"error": "standings have no instant"}
    assert found["JPN"]["differences"] == []


@in_world()
async def test_a_certificate_that_is_shown_and_cannot_be_read_hides_nobody(world: World) -> None:
    for certificate in (b"", b"no certificate", bytes(5000)):
        world["USA"].couriers["KOR"].certificate = certificate
        found = await seen(world, "USA")
        assert sorted(found) == ["JPN", "KOR"]
        assert "certificate_ends" not in found["KOR"]


@in_world()
async def test_nothing_is_written_by_looking(world: World) -> None:
    before = {p: len(world[p].journal()) for p in ("KOR", "USA", "JPN")}
    await asyncio.gather(*(seen(world, p) for p in before))
    assert {p: len(world[p].journal()) for p in before} == before
