"""A store that is behind, and peers that lie about it: nothing is planted, nothing done twice."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest

from relto import canonical
from relto.errors import PeerError
from relto.hop import Hop
from relto.links import Request, Response
from relto.ports import Transaction
from relto.records import Receipt, Release, decode_record
from relto.recovering import verify_given_back
from relto.recovery import MISSING_MAX, Recovery
from relto.shared import PAGE_ROWS, START, note_item, page
from relto.stores.memory import State
from relto.trust import Certificates
from steps import record_by
from world import OFFICERS, Place, Refusal, World, WorldLink, in_world, keys_of, person

Lie = Callable[[str, Response], Response]
SHARED, GIVE_BACK = "/relto/v1/shared", "/relto/v1/give-back/"


class LyingLink(WorldLink):
    """The way to a peer that answers otherwise than its node does."""

    lie: Lie

    async def request(
        self, method: str, path: str, body: bytes = b"", *, timeout_s: float, query: str = ""
    ) -> Response:
        answer = await super().request(method, path, body, timeout_s=timeout_s, query=query)
        return self.lie(path, answer)


async def delivered(world: World, maker: str = "KOR", to: str = "JPN") -> str:
    """An item by way of Washington, receipted at both."""
    mark = {"KOR": "KOR:III", "JPN": "JPN:HI"}[maker]
    item = await world.share(maker, mark, to)
    await world.approve(maker, item, to)
    await world.settle()
    await world.approve("USA", item, to)
    await world.settle()
    assert world[maker].outgoing(item, to).state == "delivered"
    return item


async def put_back(world: World, party: str, state: State) -> Recovery:
    """A new process on an old store, which has asked nobody yet."""
    place = world[party]
    place.crash()
    place.store._state = state
    await place.start(lanes=False)
    recovery = Recovery(place.node, place.couriers)
    await recovery.begin()
    return recovery


async def ask(world: World, recovery: Recovery, *peers: str, lie: Lie | None = None) -> None:
    for peer in peers or tuple(recovery.couriers):
        courier = recovery.couriers[peer]
        if lie is not None:
            link = LyingLink(world, courier.node.party, peer)
            link.lie = lie
            courier.calls.link = link
        await recovery.ask(courier)


def nothing_twice(world: World, *items: str) -> None:
    for party in OFFICERS:
        for item in items:
            if not world[party].has(item):
                continue
            kept = world[party].item(item)
            ways = [(o.proposal.to, o.answers) for o in kept.outgoing]
            assert len(ways) == len(set(ways)), party
            assert len({i.id for i in kept.incoming}) == len(kept.incoming), party


# What comes back


@pytest.mark.parametrize("party", ["KOR", "USA", "JPN"])
def test_what_was_done_since_an_old_copy_is_known_again(party: str) -> None:
    @in_world()
    async def run(world: World) -> None:
        before = world[party].store.state
        item = await delivered(world)
        whole = world[party].item(item)
        recovery = await put_back(world, party, before)
        assert not world[party].has(item)
        await ask(world, recovery)
        back = world[party].item(item)
        assert [o.release for o in back.outgoing] == [o.release for o in whole.outgoing]
        assert [o.state for o in back.outgoing] == [o.state for o in whole.outgoing]
        assert [(i.release, i.result) for i in back.incoming] == [
            (i.release, i.result) for i in whole.incoming
        ]
        assert {r.record_id for o in back.outgoing for r in o.results} == {
            r.record_id for o in whole.outgoing for r in o.results
        }
        assert (back.held_as, dict(back.basis)) == (whole.held_as, dict(whole.basis))
        assert world[party].node.contents.payload(back) == world[party].node.contents.payload(whole)
        assert world[party].outbox() == []
        assert [e["why"] for e in world[party].journal("behind")] == ["older"]
        assert len(world[party].journal("caught-up")) == 1
        assert world[party].node.behind == ""
        nothing_twice(world, item)

    run()


@pytest.mark.parametrize("first", ["KOR", "JPN"])
def test_a_hub_that_lost_all_decides_nothing_anew_whoever_it_asks_first(first: str) -> None:
    @in_world()
    async def run(world: World) -> None:
        before = world["USA"].store.state
        item = await delivered(world)
        more = [await delivered(world, "JPN", "KOR") for _ in range(2)]
        recovery = await put_back(world, "USA", before)
        await ask(world, recovery, first, "JPN" if first == "KOR" else "KOR")
        for each in (item, *more):
            assert [o.state for o in world["USA"].item(each).outgoing] == ["delivered"]
        assert len(world["USA"].journal("behind")) == 1
        assert (await world.asked("USA", "GET", "/reviews"))["reviews"] == []
        await world.settle()
        for party in ("KOR", "JPN"):
            assert world[party].journal("result-rejected") == []
        nothing_twice(world, item)

    run()


@pytest.mark.parametrize("party", ["KOR", "USA", "JPN"])
def test_what_passed_a_hub_that_does_not_read_is_readable_again_after_a_total_loss(
    party: str,
) -> None:
    @in_world("carried")
    async def run(world: World) -> None:
        item = await world.share("KOR", "KOR:III", "JPN", topics=("automatic",), body=b"past it")
        await world.settle()
        assert world["KOR"].outgoing(item, "JPN").state == "delivered"
        recovery = await put_back(world, party, State())
        await ask(world, recovery)
        back = world[party].item(item)
        if party == "USA":
            assert (back.key, back.state) == (None, "passing")
        else:
            assert world[party].node.contents.payload(back).body == b"past it"
        assert world[party].node.behind == ""
        assert world[party].outbox() == []
        nothing_twice(world, item)

    run()


@in_world()
async def test_a_node_with_newly_certified_keys_has_back_what_the_old_ones_signed(
    world: World,
) -> None:
    item = await delivered(world)
    old = keys_of("KOR")
    renewed = replace(
        old,
        node=person(old.ca, old.ca_key, "node", words="new node"),
        tls=person(old.ca, old.ca_key, "tls", words="new tls").certificate,
        storage_key=bytes([7]) * 32,
    )
    with patch.object(
        world, "keys_of", lambda party: renewed if party == "KOR" else keys_of(party)
    ):
        recovery = await put_back(world, "KOR", State())
        await ask(world, recovery)
        back = world["KOR"].item(item)
        assert [o.state for o in back.outgoing] == ["delivered"]
        assert world["KOR"].node.contents.payload(back).body == b"what was seen"


@in_world("carried")
async def test_a_key_is_sealed_again_only_for_who_had_it_and_by_way_of_that_hub(
    world: World,
) -> None:
    item = await world.share("KOR", "KOR:III", "JPN", topics=("automatic",))
    other = await world.share("KOR", "KOR:III", "USA", topics=("paired",))
    await world.approve("KOR", other, "USA")
    await world.settle()

    async def again(asker: str, at: str, item_id: str, end: str) -> int:
        node = world[asker].node
        certificates = Certificates.of([node.secrets.certificate])
        body = Hop((node.node_key(),), certificates).encode()
        sender = "USA" if at in ("KOR", "JPN") else asker
        path = f"/relto/v1/seal-again/{item_id}/{end}"
        return await world.post_bytes(sender, at, body, path=path)

    assert await again("JPN", "USA", item, "KOR") == 200
    assert await again("KOR", "USA", item, "JPN") == 200
    for asker, at, item_id, end in (
        ("JPN", "USA", other, "KOR"),  # it never went to Tokyo
        ("USA", "KOR", item, "KOR"),  # the hub itself
        ("JPN", "KOR", other, "KOR"),
        ("JPN", "USA", item, "USA"),
        ("JPN", "USA", item, "JPN"),
        ("JPN", "USA", "0" * 64, "KOR"),
    ):
        assert await again(asker, at, item_id, end) == 400, (asker, at, end)
    told = [(e["to"], e.get("via")) for e in world["KOR"].journal("give-back")]
    assert told == [("JPN", "USA")]
    await world.hold("KOR", "JPN", on=True)
    assert await again("JPN", "USA", item, "KOR") == 503  # as by whoever has much to do
    assert world["KOR"].journal("give-back")[-1]["codes"] == ["on-hold"]


@in_world()
async def test_who_asks_too_much_is_told_to_come_back(world: World) -> None:
    item = await delivered(world)
    release = world["USA"].item(item).incoming[0].id
    answers = [await asked_of(world, "KOR", "USA", item, release) for _ in range(103)]
    assert answers == [200] * 100 + [503] * 3
    world.loop.virtual_s += 1
    assert await asked_of(world, "KOR", "USA", item, release) == 200


@in_world()
async def test_a_review_that_was_done_already_is_gone_and_cannot_be_done_meanwhile(
    world: World,
) -> None:
    item = await world.share("KOR", "KOR:III", "JPN")
    other = await world.share("KOR", "KOR:III", "JPN", body=b"still in review")
    before = world["KOR"].store.state
    await world.approve("KOR", item, "JPN")
    await world.settle()
    recovery = await put_back(world, "KOR", before)
    world["KOR"].node.behind = "restored"
    with pytest.raises(Refusal) as refused:
        await world.approve("KOR", item, "JPN")
    assert "USA has not told yet" in refused.value.answer["error"]
    await ask(world, recovery)
    waiting = (await world.asked("KOR", "GET", "/reviews"))["reviews"]
    assert [r["id"] for r in waiting] == [other]
    await world.approve("KOR", other, "JPN")
    await world.settle()
    nothing_twice(world, item, other)
    assert world["USA"].has(other)


@in_world()
async def test_what_was_released_anew_before_the_peer_was_asked_never_leaves(world: World) -> None:
    item = await world.share("KOR", "KOR:III", "JPN")
    before = world["KOR"].store.state
    await world.approve("KOR", item, "JPN")
    await world.settle()
    first = world["KOR"].outgoing(item, "JPN").release
    recovery = await put_back(world, "KOR", before)
    world.loop.virtual_s += 60
    await world.approve("KOR", item, "JPN")  # nobody knows yet that the store is old
    assert len(world["KOR"].outbox("USA")) == 1
    await ask(world, recovery)
    [outgoing] = world["KOR"].item(item).outgoing
    assert (outgoing.release, outgoing.state) == (first, "with-hub")
    [row] = world["KOR"].outbox("USA")
    assert json.loads(row.body)["release"] == first.record_id if first else False
    await world.settle()
    assert len(world["USA"].item(item).incoming) == 1


@in_world()
async def test_a_number_that_peers_have_seen_is_not_given_again_by_a_clock_set_back(
    world: World,
) -> None:
    before = world["KOR"].store.state
    item = await delivered(world)
    release = world["KOR"].outgoing(item, "JPN").release
    assert release is not None
    last = decode_record(release, Release).seq
    recovery = await put_back(world, "KOR", before)
    world["KOR"].clock.wrong_by_s = -86_400.0
    await ask(world, recovery)
    more = await world.share("KOR", "KOR:III", "JPN", body=b"more")
    await world.approve("KOR", more, "JPN")
    again = world["KOR"].outgoing(more, "JPN").release
    assert again is not None
    assert decode_record(again, Release).seq > last


@in_world()
async def test_nothing_is_taken_from_a_peer_that_was_not_asked_yet(world: World) -> None:
    before = world["KOR"].store.state
    item = await delivered(world, "JPN", "KOR")
    recovery = await put_back(world, "KOR", before)
    sent = world["USA"].outgoing(item, "KOR")
    part = world["USA"].couriers["KOR"]
    assert part.node.party == "USA"
    assert sent.release is not None
    hop = Hop((sent.release,), world["USA"].item(item).certificates)
    assert await world.post("USA", "KOR", hop) == 503
    await ask(world, recovery)
    assert await world.post("USA", "KOR", hop) == 400  # a release without its manifest
    [incoming] = world["KOR"].item(item).incoming
    assert incoming.state == "held"


@in_world()
async def test_asking_again_changes_nothing(world: World) -> None:
    before = world["KOR"].store.state
    item = await delivered(world)
    recovery = await put_back(world, "KOR", before)
    for _ in range(3):
        await ask(world, recovery)
    back = [e for e in world["KOR"].journal("recovered") if e["item"] == item]
    assert len(back) == 1
    assert world["KOR"].node.twin == ""
    assert len(world["USA"].journal("give-back")) == 1


@in_world()
async def test_a_peer_of_an_earlier_version_is_sent_to_as_before(world: World) -> None:
    recovery = await put_back(world, "KOR", world["KOR"].store.state)

    async def unknown(*_: object) -> None:
        return None

    world["USA"].peering.returning.answer = unknown  # type: ignore[method-assign,assignment]
    await ask(world, recovery)
    assert world["KOR"].node.unasked == set()
    item = await world.share("KOR", "KOR:III", "USA")
    await world.approve("KOR", item, "USA")
    await world.settle()
    assert world["KOR"].outgoing(item, "USA").state == "delivered"


# Twins


@in_world()
async def test_a_second_node_with_the_same_keys_is_noticed_and_not_believed(world: World) -> None:
    before = world["KOR"].store.state
    twin = Place(world, "KOR", payload_bytes_max=256 * 1024)
    twin.store._state = before
    await twin.start(lanes=False)
    recovery = Recovery(twin.node, twin.couriers)
    await recovery.begin()
    await ask(world, recovery)
    assert twin.node.twin == ""
    item = await delivered(world)
    for _ in range(2):
        await ask(world, recovery)
    assert twin.node.twin == "USA"
    assert not twin.has(item)
    [told] = twin.journal("twin")
    assert told["peer"] == "USA"
    release = world["KOR"].outgoing(item, "JPN").release
    assert release is not None
    assert told["release"] == release.record_id
    assert world["KOR"].node.twin == ""


# Peers that lie


def claims(*records: dict[str, str], more: bool = False) -> Lie:
    def lie(path: str, answer: Response) -> Response:
        if path != SHARED:
            return answer
        listed: canonical.Json = {
            "epoch": "ab" * 16,
            "after": 10**9,
            "more": more,
            "records": list(records),
        }
        return Response(200, canonical.encode(listed))

    return lie


@in_world()
async def test_a_peer_that_invents_records_is_not_believed(world: World) -> None:
    await delivered(world)
    state = world["KOR"].store.state
    recovery = await put_back(world, "KOR", state)
    entry = {"record": "1" * 64, "item": "2" * 64, "release": "3" * 64}
    await ask(world, recovery, lie=claims(entry))
    node = world["KOR"].node
    assert (node.behind, node.unasked, node.twin) == ("", set(), "")
    assert world["KOR"].journal("behind") == []
    status = await world.asked("KOR", "GET", "/status")
    assert [p["missing"] for p in status["peers"]] == [1]


@in_world()
async def test_a_list_without_end_fills_no_disk(world: World) -> None:
    recovery = await put_back(world, "KOR", world["KOR"].store.state)
    numbers = iter(range(10**9))

    def lie(path: str, answer: Response) -> Response:
        if path != SHARED:
            return Response(400, b"{}")
        entries = [
            {"record": f"{n:064x}", "item": f"{n:064x}", "release": f"{n:064x}"}
            for n in (next(numbers) for _ in range(PAGE_ROWS))
        ]
        listed: canonical.Json = {
            "epoch": "ab" * 16,
            "after": 7,
            "more": True,
            "records": entries,
        }
        return Response(200, canonical.encode(listed))

    await ask(world, recovery, lie=lie)
    with world["KOR"].store.read() as reader:
        assert reader.count("missing") == MISSING_MAX
    assert world["KOR"].node.behind == ""


MALFORMED: dict[str, bytes] = {
    "nothing": b"",
    "no object": b"[]",
    "a key too few": canonical.encode({"epoch": "ab" * 16, "after": 0, "more": False}),
    "an epoch that is none": canonical.encode(
        {"epoch": "x", "after": 0, "more": False, "records": []}
    ),
    "a number below 0": canonical.encode(
        {"epoch": "ab" * 16, "after": -1, "more": False, "records": []}
    ),
    "more of nothing": canonical.encode(
        {"epoch": "ab" * 16, "after": 0, "more": True, "records": []}
    ),
    "an entry that is none": canonical.encode(
        {"epoch": "ab" * 16, "after": 0, "more": False, "records": [{"record": "1" * 64}]}
    ),
    "an id that is none": canonical.encode(
        {"epoch": "ab" * 16, "after": 0, "more": False,
         "records": [{"record": "../x", "item": "2" * 64, "release": "3" * 64}]}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_list_is_refused(name: str) -> None:
    @in_world()
    async def run(world: World) -> None:
        recovery = await put_back(world, "KOR", world["KOR"].store.state)
        with pytest.raises(PeerError):
            await ask(world, recovery, lie=lambda _, a: Response(200, MALFORMED[name]))
        assert world["KOR"].node.behind == ""

    run()


@in_world()
async def test_what_is_given_back_altered_is_not_taken(world: World) -> None:
    before = world["KOR"].store.state
    item = await delivered(world)
    recovery = await put_back(world, "KOR", before)

    def cut(path: str, answer: Response) -> Response:
        if not path.startswith(GIVE_BACK):
            return answer
        return Response(200, answer.body[:-1] + bytes([answer.body[-1] ^ 1]))

    await ask(world, recovery, lie=cut)
    assert not world["KOR"].has(item)
    assert world["KOR"].node.behind == ""


async def given(world: World, item: str) -> Hop:
    """What Washington would give back of Seoul's release, in the clear."""
    kept = world["USA"].item(item)
    [incoming] = kept.incoming
    results = tuple(r for r in (incoming.result, *incoming.later) if r is not None)
    records = (kept.manifest_envelope, incoming.release, *incoming.approvals, *results)
    return Hop(records, kept.certificates.for_envelopes(records))


Forgery = Callable[[World, Hop], Hop]
FORGERIES: dict[str, Forgery] = {
    "a receipt by another party's name": lambda w, h: replace(
        h, records=(*h.records[:-1], _receipt_by("USA", h, "JPN"))
    ),
    "a receipt of another release": lambda w, h: replace(
        h, records=(*h.records, _receipt_by("USA", h, "USA", releases=("1" * 64,)))
    ),
    "a receipt of another item": lambda w, h: replace(
        h, records=(*h.records, _receipt_by("USA", h, "USA", item="1" * 64))
    ),
    "a receipt of who is not on the path": lambda w, h: replace(
        h, records=(*h.records, _receipt_by("KOR", h, "KOR"))
    ),
    "a release in our name by the giver's key": lambda w, h: replace(
        h, records=(h.records[0], _by_usa(h.records[1]), *h.records[2:])
    ),
    "a release without what its officers signed": lambda w, h: replace(
        h, records=(*h.records[:2], *h.records[3:])
    ),
    "no manifest": lambda w, h: replace(h, records=h.records[1:]),
    "no certificates": lambda w, h: replace(h, certificates=Certificates()),
}


def _receipt_by(signer: str, hop: Hop, party: str, **more: Any) -> Any:
    release = hop.records[1].record_id
    fields = {"item": hop.records[0].record_id, "releases": (release,), **more}
    return record_by(
        signer, Receipt(fields["item"], party, fields["releases"], "2015-01-05T00:00:00Z")
    )


def _by_usa(envelope: Any) -> Any:
    return record_by("USA", decode_record(envelope, Release))


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_history_does_not_verify(name: str) -> None:
    @in_world()
    async def run(world: World) -> None:
        hop = await given(world, await delivered(world))
        trust = world["KOR"].node.trust
        verify_given_back(hop, trust)
        forged = FORGERIES[name](world, hop)
        with_usa = forged.certificates.with_others(
            Certificates.of([keys_of("USA").node.certificate])
        )
        certificates = Certificates() if name == "no certificates" else with_usa
        with pytest.raises(PeerError):
            verify_given_back(replace(forged, certificates=certificates), trust)

    run()


# The giver


async def asked_of(
    world: World,
    asker: str,
    giver: str,
    item: str,
    release: str,
    *,
    key_of: str = "",
    query: str = "",
) -> int:  # fmt: skip
    place = world[key_of or asker]
    certificates = Certificates.of([place.node.secrets.certificate])
    body = Hop((place.node.node_key(),), certificates).encode()
    path = f"{GIVE_BACK}{item}/{release}"
    return await world.post_bytes(asker, giver, body, path=path, query=query)


@in_world()
async def test_a_party_gets_back_what_is_its_own_and_nothing_else(world: World) -> None:
    item = await delivered(world)
    hub = world["USA"].item(item)
    from_kor, to_jpn = hub.incoming[0].id, hub.outgoing[0].release
    assert to_jpn is not None
    world.refusals.clear()
    assert await asked_of(world, "KOR", "USA", item, from_kor) == 200
    assert await asked_of(world, "JPN", "USA", item, to_jpn.record_id) == 200
    for asker, release in (("JPN", from_kor), ("KOR", to_jpn.record_id), ("JPN", "0" * 64)):
        assert await asked_of(world, asker, "USA", item, release) == 400
    assert await asked_of(world, "JPN", "USA", "0" * 64, to_jpn.record_id) == 400
    # Sealed to another than who asks, and ranges of what is small.
    assert await asked_of(world, "KOR", "USA", item, from_kor, key_of="JPN") == 400
    assert await asked_of(world, "KOR", "USA", item, from_kor, query="offset=0") == 400
    assert await asked_of(world, "KOR", "USA", item, from_kor, query="offset=-1") == 400
    assert len(world.refusals) == 1  # and all refusals look the same
    with world["USA"].store.read() as reader:
        assert [r.release for r in page(reader, "KOR", START)[0]] == [from_kor]
        assert [r.release for r in page(reader, "JPN", START)[0]] == [to_jpn.record_id]


@in_world()
async def test_contents_go_back_only_if_the_decision_holds_now_and_no_officer_stops_it(
    world: World,
) -> None:
    item = await delivered(world, "JPN", "KOR")
    release = world["USA"].outgoing(item, "KOR").release
    assert release is not None
    await world.hold("USA", "KOR", on=True)
    assert await asked_of(world, "KOR", "USA", item, release.record_id) == 503
    [entry] = world["USA"].journal("give-back")
    assert (entry["whole"], entry["codes"]) == (False, ["on-hold"])
    await world.hold("USA", "KOR", on=False)
    assert await asked_of(world, "KOR", "USA", item, release.record_id) == 200
    await world.set_clocks("2014-12-01T00:00:00Z")  # before the pact
    assert await asked_of(world, "KOR", "USA", item, release.record_id) == 400
    assert world["USA"].journal("give-back")[-1]["codes"] == ["not-in-force"]


@in_world()
async def test_a_peer_that_withholds_is_asked_again(world: World) -> None:
    before = world["KOR"].store.state
    item = await delivered(world, "JPN", "KOR")
    await world.hold("USA", "KOR", on=True)
    recovery = await put_back(world, "KOR", before)
    await ask(world, recovery)
    assert not world["KOR"].has(item)
    await world.hold("USA", "KOR", on=False)
    await ask(world, recovery)
    assert world["KOR"].item(item).state == "received"


async def listed(world: World, asker: str, giver: str, epoch: str = "", after: int = 0) -> Any:
    """A page of the list that `giver` keeps for `asker`."""
    query = f"epoch={epoch or START.link}&after={after}"
    request = Request("GET", SHARED, query, b"", world.keys_of(asker).tls)
    answer = await world[giver].peering.handle(request)
    assert answer.status == 200
    return json.loads(answer.body)


@in_world()
async def test_nobody_sees_in_its_list_that_what_others_gave_was_lost(world: World) -> None:
    """Rule 6: Washington loses and takes back what was Tokyo's; Seoul's list is as it was."""
    await delivered(world, "KOR", "JPN")
    await world.settle()
    read = await listed(world, "KOR", "USA")
    assert len(read["records"]) == 1
    before = world["USA"].store.state
    lost = await world.share("JPN", "JPN:HI", "USA", body=b"for Washington alone")
    await world.approve("JPN", lost, "USA")
    await world.settle()
    recovery = await put_back(world, "USA", before)
    await ask(world, recovery)
    assert world["USA"].item(lost).state == "received"
    assert [e["why"] for e in world["USA"].journal("caught-up")] == ["older"]
    for epoch, after in (("", 0), (read["epoch"], read["after"])):
        again = await listed(world, "KOR", "USA", epoch, after)
        assert again == {**read, "records": [] if after else read["records"]}


@in_world("carried")
async def test_a_list_that_grew_again_in_another_order_is_read_anew(world: World) -> None:
    items = [
        await world.share("KOR", "KOR:III", "JPN", topics=("passed",), body=b"%d" % number)
        for number in range(3)
    ]
    await world.settle()
    read = await listed(world, "KOR", "USA")
    assert [r["item"] for r in read["records"]] == items
    kept = [world["USA"].item(item) for item in items]

    def anew(tx: Transaction) -> None:
        for row in tx.listing("shared", state="KOR", limit=9):
            tx.delete("shared", row.key)
        tx.set_meta("shared:KOR", b"0")
        for item in (kept[1], kept[0], kept[2]):  # the last is at its place again
            note_item(tx, item)

    await world["USA"].node.submit(anew)
    await world.restart("USA")
    again = await listed(world, "KOR", "USA", read["epoch"], read["after"])
    assert [r["item"] for r in again["records"]] == [items[1], items[0], items[2]]
    assert (again["after"], again["epoch"] == read["epoch"]) == (3, False)
    beyond = await listed(world, "KOR", "USA", read["epoch"], 10**12)
    assert beyond == again


@pytest.mark.parametrize("restarts", [False, True])
def test_a_long_list_is_told_once_and_goes_on_where_it_was(restarts: bool) -> None:
    @in_world()
    async def run(world: World) -> None:
        total = 2 * PAGE_ROWS + 7

        def fill(tx: Transaction) -> None:
            for number in range(1, total + 1):
                record = f"{number:064x}"
                tx.put("shared", f"KOR:{record}", f"{record}:{record}".encode(), state="KOR",
                       rank=f"{number:016d}")  # fmt: skip
            tx.set_meta("shared:KOR", str(total).encode())

        await world["USA"].node.submit(fill)
        told: list[str] = []
        epoch, after = "", 0
        for size in (PAGE_ROWS, PAGE_ROWS, 7, 0, 0):
            page_ = await listed(world, "KOR", "USA", epoch, after)
            assert len(page_["records"]) == size
            assert page_["more"] is (size == PAGE_ROWS)
            told += [r["record"] for r in page_["records"]]
            epoch, after = page_["epoch"], page_["after"]
            if restarts:
                await world.restart("USA")
        assert told == [f"{number:064x}" for number in range(1, total + 1)]
        assert after == total

    run()


@in_world()
async def test_a_hold_shows_as_waiting_and_keeps_nothing_else_back(world: World) -> None:
    """A hub that lost its store is told "later", as by whoever has much to do (rule 6)."""
    before = world["USA"].store.state
    item = await delivered(world)
    other = await world.share("KOR", "KOR:III", "USA", body=b"for Washington alone")
    await world.approve("KOR", other, "USA")
    await world.settle()
    await world.hold("KOR", "JPN", on=True)
    recovery = await put_back(world, "USA", before)
    answers: set[tuple[int, bytes]] = set()

    def told(path: str, answer: Response) -> Response:
        if path.startswith(GIVE_BACK + item):
            answers.add((answer.status, answer.body))
        return answer

    await ask(world, recovery, "KOR", lie=told)
    assert answers == {(503, b'{"status":"retry"}')}
    assert world["USA"].item(other).state == "received"
    assert "KOR" not in world["USA"].node.unasked  # what is for it can go
    await world.hold("KOR", "JPN", on=False)
    await ask(world, recovery, "KOR", "JPN")
    assert [i.record.sender for i in world["USA"].item(item).incoming] == ["KOR"]
    assert world["USA"].journal("twin") == []


@in_world("carried")
async def test_more_than_a_peer_gives_in_a_second_comes_all_the_same(world: World) -> None:
    before = world["KOR"].store.state
    items = [
        await world.share("KOR", "KOR:III", "JPN", topics=("passed",), body=b"%d" % number)
        for number in range(23)
    ]
    await world.settle()
    recovery = await put_back(world, "KOR", before)
    with patch("relto.returning.GIVEN_PER_S_MAX", 5):
        await ask(world, recovery)
    assert {world["KOR"].outgoing(item, "JPN").state for item in items} == {"delivered"}


def test_what_a_peer_is_told_does_not_depend_on_what_passes_between_others() -> None:
    """Rule 6: the same list in two worlds that differ in what Seoul gave to Washington alone."""
    lists: list[object] = []

    def told(more: bool) -> Callable[[World], Awaitable[None]]:
        async def run(world: World) -> None:
            for number in range(3 if more else 0):
                other = await world.share("KOR", "KOR:III", "USA", body=b"%d" % number)
                await world.approve("KOR", other, "USA")
                await world.settle()
            await delivered(world)
            with world["USA"].store.read() as reader:
                records, last, rest = page(reader, "JPN", START)
            lists.append((len(records), last.number, rest))

        return run

    for more in (False, True):
        in_world()(told(more))()
    assert lists == [(1, 1, False), (1, 1, False)]
