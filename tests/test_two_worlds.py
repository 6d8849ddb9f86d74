"""Rule 6: what a party may not read does not change a byte of what it sees (DESIGN §6).

`make soak TWO=N` plays N pairs for each party and counts how many it takes to find each leak.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from leaks import LEAKS
from relto.links import Request
from transcripts import digest
from two_worlds import VIEWERS, difference, pair_of, transcripts
from world import World, in_world, keys_of

PAIRS = 6  # for each viewer
PAIRS_MAX = 60  # for each leak


@pytest.mark.parametrize("seed", range(PAIRS))
@pytest.mark.parametrize("viewer", VIEWERS)
def test_two_worlds_that_differ_in_what_a_party_may_not_read_are_one_to_it(
    viewer: str, seed: int
) -> None:
    found = difference(pair_of(seed, viewer))
    assert found is None, f"{found}\nreplay: python -m two_worlds {seed} {viewer}"


@pytest.mark.parametrize("name", LEAKS)
def test_a_planted_leak_is_found_where_it_is(name: str) -> None:
    leak = LEAKS[name]
    with leak.patch():
        seeds = range(leak.first, leak.first + PAIRS_MAX)
        found = (difference(pair_of(seed, leak.viewer)) for seed in seeds)
        places = set(next(f for f in found if f is not None).places)
    assert places & set(leak.shows), places
    assert places <= {*leak.shows, *leak.beside}


@pytest.mark.parametrize("viewer", VIEWERS)
def test_a_pair_is_the_same_bytes_in_every_process(viewer: str) -> None:
    told = [
        subprocess.run(
            [sys.executable, "-m", "two_worlds", "7", viewer],
            cwd=Path(__file__).parent,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert told[0] == told[1]
    pair = pair_of(7, viewer)
    assert [digest(t) in told[0] for t in transcripts(pair)] == [True, True]


# Rule 7, and what a hub tells of others


ASKED = {
    "a release that is not there": ("POST", "/relto/v1/ciphertext/" + "0" * 64, "offset=0", b"x"),
    "no such path": ("GET", "/relto/v1/items", "", b""),
    "metrics": ("GET", "/metrics", "", b""),
    "a message that is none": ("POST", "/relto/v1/hop", "", b"x" * 3_000),
    "the key of nobody": ("GET", "/relto/v1/node-key/ZZZ", "", b""),
}


@in_world("carried")
async def test_whatever_a_peer_may_not_have_it_gets_the_same_bytes(world: World) -> None:
    """Absent, another's, declined, refused, held back: one answer."""
    there = await world.share("JPN", "JPN:HI", "USA", topics=("paired",))
    await world.approve("JPN", there, "USA")
    held = await world.share("JPN", "JPN:HI", "USA", topics=("paired",), body=b"held back")
    await world.approve("JPN", held, "USA")
    declined = await world.share("USA", "USA:C", "KOR", topics=("paired",))
    await world.decline("USA", declined, "KOR")
    await world.carry("JPN", "USA", rows=1)
    await world.settle()
    releases = [world["JPN"].outgoing(item, "USA").release for item in (there, held)]
    ids = [there, held, declined, *(r.record_id for r in releases if r is not None)]
    asked = list(ASKED.values())
    asked += [("POST", f"/relto/v1/ciphertext/{name}", "offset=0", b"x") for name in ids]
    asked += [("GET", f"/relto/v1/ciphertext/{name}", "", b"") for name in ids]
    tls = keys_of("KOR").tls
    answers = {
        await world["USA"].peering.handle(Request(method, path, query, body, tls))
        for method, path, query, body in asked
        if path != "/relto/v1/hop"  # sealed to no key: the one answer that says so
    }
    assert [(a.status, a.body) for a in answers] == [(400, b'{"status":"refused"}')]


@in_world("carried", lanes=True)
async def test_a_hub_tells_a_peers_key_without_asking_for_it(world: World) -> None:
    """So nobody learns whether a third party is up, and it does not notice who asks."""

    async def asked() -> bytes:
        request = Request("GET", "/relto/v1/node-key/JPN", "", b"", keys_of("KOR").tls)
        return (await world["USA"].peering.handle(request)).body

    await asyncio.sleep(1)
    up = await asked()
    assert b"certificates" in up
    world.sights.clear()
    world["JPN"].crash()
    assert await asked() == up
    assert [s for s in world.sights if s.receiver == "JPN"] == []
    await world.restart("USA")
    assert await asked() == up


@in_world("carried", lanes=True)
async def test_a_key_that_has_ended_is_told_no_more(world: World) -> None:
    await asyncio.sleep(1)
    world["JPN"].crash()
    world["USA"].clock.wrong_by_s = 8 * 24 * 3600
    request = Request("GET", "/relto/v1/node-key/JPN", "", b"", keys_of("KOR").tls)
    assert (await world["USA"].peering.handle(request)).status == 400
