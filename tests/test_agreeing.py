"""A running node takes in what was signed, from people and from peers, and decides by it."""

from __future__ import annotations

import hashlib

import pytest

from pacts import Capital, Table, day
from relto.agreeing import PAPER_BYTES_MAX, Agreeing, joined, kept
from relto.decisions import Allow, Deny, Engine
from relto.errors import CallerError, PeerError
from relto.instruments import Instrument, Pillar, decode_held
from relto.questions import decode_question
from relto.regime import closure
from relto.signed import load_folder
from world import Place, World, in_world

CAPITAL = Capital()
OWN = {
    "JPN": (("pact", "jp-us"), ("ko-us", "au-us")),
    "KOR": (("pact", "ko-us"), ("jp-us", "au-us")),
    "USA": (("pact", "ko-us", "jp-us", "au-us"), ()),
}


def suspended(at: str = day(20)) -> bytes:
    """The agreement of Korea and the United States, which Korea has suspended since."""
    table = Table(of="ko-us", texts=CAPITAL.texts, parties=CAPITAL.keys).signed()
    return table.move("KOR", "suspended", at).deposit_all(at).encode()


def agreed(place: Place) -> Agreeing:
    """The place's node decides by its party's folder of signed agreements from now on."""
    whole, pillars = OWN[place.party]
    files = CAPITAL.folder(*whole, pillars=pillars)
    regime = load_folder(files)
    place.node.engine = Engine(closure(regime, place.party))
    agreeing = Agreeing(place.node, files, regime)
    place.peering.agreeing = place.counter.agreeing = agreeing
    return agreeing


def may_go(place: Place, at: str) -> bool:
    """Whether Korea's report may go to Japan at an instant, as the place's node decides."""
    engine = place.node.engine
    question = {
        "id": "q", "at": at, "holder": "KOR", "to": "JPN",
        "item": {
            "id": "i", "originator": "KOR", "mark": "KOR:II", "releasable_to": ["JPN", "USA"],
            "kind": "report", "topics": ["missile.launch"], "about": ["PRK"],
        },
    }  # fmt: skip
    decision = engine.decide(decode_question(question, engine.regime))
    assert isinstance(decision, Allow | Deny)
    return isinstance(decision, Allow)


@in_world()
async def test_what_is_taken_in_is_journaled_kept_and_decided_by_at_once(world: World) -> None:
    seoul = world["KOR"]
    agreeing = agreed(seoul)
    before = seoul.node.engine.regime.digest
    assert may_go(seoul, day(25))
    found = await agreeing.take(suspended(), "kim")
    assert found == {"agreement": "ko-us", "deposits": 4, "new": True}
    assert may_go(seoul, day(19))
    assert not may_go(seoul, day(20))
    entry = seoul.journal("agreement")[-1]
    assert (entry["agreement"], entry["deposits"], entry["by"]) == ("ko-us", 4, "kim")
    assert entry["regime"] == seoul.node.engine.regime.digest != before
    # The next process finds it.
    with seoul.node.store.read() as reader:
        papers = kept(reader)
    whole, pillars = OWN["KOR"]
    files = joined(CAPITAL.folder(*whole, pillars=pillars), papers)
    assert load_folder(files).digest == entry["regime"]


@in_world()
async def test_what_is_known_changes_nothing_and_is_not_journaled(world: World) -> None:
    agreeing = agreed(world["KOR"])
    again = await agreeing.take(CAPITAL.instruments["pact"].encode(), "kim")
    assert again == {"agreement": "pact", "deposits": 4, "new": False}
    assert world["KOR"].journal("agreement") == []


@in_world()
async def test_an_older_copy_takes_nothing_away(world: World) -> None:
    agreeing = agreed(world["KOR"])
    await agreeing.take(suspended(), "kim")
    older = await agreeing.take(CAPITAL.instruments["ko-us"].encode(), "kim")
    assert (older["deposits"], older["new"]) == (4, False)
    assert not may_go(world["KOR"], day(20))


@in_world()
async def test_a_move_reaches_the_parties_by_their_nodes_and_others_as_an_extract(
    world: World,
) -> None:
    parties = {party: agreed(world[party]) for party in OWN}
    await parties["KOR"].take(suspended(), "kim")
    await parties["USA"].ask("KOR", world["USA"].couriers["KOR"].calls.link)
    assert not may_go(world["USA"], day(20))
    await parties["JPN"].ask("USA", world["JPN"].couriers["USA"].calls.link)
    assert not may_go(world["JPN"], day(20))
    assert isinstance(decode_held(parties["USA"].paper("ko-us")), Instrument)
    extract = parties["JPN"].paper("ko-us")
    assert isinstance(decode_held(extract), Pillar)
    assert b"Care." not in extract
    assert world["JPN"].journal("agreement")[-1]["by"] == "USA"
    regimes = {p: world[p].node.engine.regime.agreement_digests["ko-us"] for p in OWN}
    assert len(set(regimes.values())) == 1


@in_world()
async def test_a_peer_that_has_the_same_sends_nothing(world: World) -> None:
    parties = {party: agreed(world[party]) for party in OWN}
    for name in ("pact", "ko-us"):
        paper = parties["KOR"].paper(name)
        have = hashlib.sha256(paper).hexdigest()
        assert parties["USA"].give("KOR", name, have) == b""
        assert parties["USA"].give("KOR", name, "0" * 64) == paper


@in_world()
async def test_who_is_not_in_an_agreement_learns_nothing_of_it(world: World) -> None:
    washington = agreed(world["USA"])
    for peer, name in (("AUS", "pact"), ("AUS", "ko-us"), ("KOR", "absent")):
        with pytest.raises(PeerError, match="no such agreement of the peer"):
            washington.give(peer, name, "0" * 64)
    tokyo = agreed(world["JPN"])
    with pytest.raises(PeerError, match="no such agreement of the peer"):
        tokyo.give("USA", "ko-us", "0" * 64)  # an extract is not passed on


@in_world()
async def test_what_does_not_hold_is_refused_and_changes_nothing(world: World) -> None:
    seoul = world["KOR"]
    agreeing = agreed(seoul)
    regime = seoul.node.engine.regime
    good = suspended()
    for data, error, words in (
        (good.replace(b"Equal marks.", b"Other marks."), CallerError, "different terms"),
        (b"{}", PeerError, "a file of format"),
        (b"x" * (PAPER_BYTES_MAX + 1), CallerError, "a node takes"),
        (CAPITAL.pillar("ko-us").encode(), CallerError, "the other an extract"),
        (CAPITAL.instruments["au-us"].encode(), CallerError, "the other an extract"),
    ):
        with pytest.raises(error, match=words):
            await agreeing.take(data, "kim")
    assert seoul.node.engine.regime is regime
    assert seoul.journal("agreement") == []


@in_world()
async def test_two_stories_of_a_depositary_are_refused_whoever_brings_the_second(
    world: World,
) -> None:
    agreeing = agreed(world["KOR"])
    await agreeing.take(suspended(), "kim")
    table = Table(of="ko-us", texts=CAPITAL.texts, parties=CAPITAL.keys).signed()
    other = table.move("USA", "suspended", day(21)).deposit_all(day(21)).encode()
    with pytest.raises(PeerError, match="two different deposits 4"):
        await agreeing.take(other, "USA")
    assert not may_go(world["KOR"], day(20))


@in_world()
async def test_a_node_that_decides_by_a_draft_takes_nothing_in(world: World) -> None:
    agreeing = Agreeing(world["KOR"].node, CAPITAL.texts, load_folder(CAPITAL.texts))
    assert agreeing.names == ()
    with pytest.raises(CallerError, match="nothing signed"):
        await agreeing.take(suspended(), "kim")
    with pytest.raises(CallerError, match="no signed agreement pact here; there are none"):
        agreeing.paper("pact")


@in_world()
async def test_a_peer_that_gives_nothing_is_left_alone_for_an_hour(world: World) -> None:
    agreeing = agreed(world["KOR"])
    link = world["KOR"].couriers["USA"].calls.link  # the node in Washington decides by a draft
    await agreeing.ask("USA", link)
    asked = [s for s in world.sights if "/instrument/" in str(s)]
    assert asked
    await agreeing.ask("USA", link)
    assert [s for s in world.sights if "/instrument/" in str(s)] == asked
    agreed(world["USA"])
    await agreeing.take(suspended(), "kim")
    assert not may_go(world["KOR"], day(20))
