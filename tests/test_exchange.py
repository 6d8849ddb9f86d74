"""The exchange: what one event does to one item, and an item's whole way between nodes."""

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from checkers import check_all, check_kept_secret, watch
from relto.certificates import decode_certificate
from relto.decisions import Leg
from relto.envelope import Envelope
from relto.errors import CallerError, PeerError
from relto.events import Arrive, Complete, Decline, Dispatch, NotYet, Offer, Refused, Taken
from relto.exchange import step
from relto.holds import Holds
from relto.hop import Hop
from relto.instants import moment
from relto.items import Item
from relto.keys import issue
from relto.payloads import Payload
from relto.ports import JOURNAL_START, Row, journal_link
from relto.records import (
    Approval,
    Hold,
    Manifest,
    NodeKey,
    Receipt,
    Refusal,
    Release,
    decode_record,
)
from relto.stores.memory import Fault, State
from relto.trust import Certificates, Verified
from steps import (
    CIPHERTEXT,
    ITEM,
    LATER,
    NOW,
    TISA,
    apply,
    approve,
    arrive,
    consignment_hop,
    draft,
    outcome,
    receipt,
    record_by,
    refusal,
    release_by_usa,
    release_in,
    sender_events,
    sender_states,
    view,
)
from world import Place, Weather, World, der, in_world, keys_of, person
from world import Refusal as Refused_

OURS = "our fault"
THEIRS = "their fault"
STATES = (
    "nothing", "review", "ready", "sent", "with-hub", "delivered", "refused", "declined", "blocked",
)  # fmt: skip
TABLE = {
    "draft": ("review", OURS, OURS, OURS, OURS, OURS, OURS, OURS, OURS),
    "offer": (
        OURS, OURS, OURS, OURS, OURS,
        "delivered review", "refused review", "declined review", OURS,
    ),
    "approve": (OURS, "ready", OURS, OURS, OURS, OURS, OURS, OURS, OURS),
    "decline": (OURS, "declined", OURS, OURS, OURS, OURS, OURS, OURS, OURS),
    "dispatch": (OURS, OURS, "ready", "sent", "with-hub", OURS, OURS, OURS, "ready"),
    "taken in part": (
        OURS, OURS, "ready", "sent", "with-hub", "delivered", "refused", OURS, "blocked",
    ),
    "taken": (OURS, OURS, "sent", "sent", "with-hub", "delivered", "refused", OURS, "blocked"),
    "hub's receipt": (
        THEIRS, THEIRS, "with-hub", "with-hub", "with-hub",
        "delivered", "refused", THEIRS, "with-hub",
    ),
    "receipt": (
        THEIRS, THEIRS, "delivered", "delivered", "delivered",
        "delivered", THEIRS, THEIRS, "delivered",
    ),
    "another receipt": (
        THEIRS, THEIRS, "delivered", "delivered", "delivered", THEIRS, THEIRS, THEIRS, "delivered",
    ),
    "refusal": (
        THEIRS, THEIRS, "refused", "refused", "refused", THEIRS, "refused", THEIRS, "refused",
    ),
    "complete": (
        OURS, "review", "ready", "sent", "with-hub", "delivered", "refused", "declined", "blocked",
    ),
}  # fmt: skip


# The pure step, at the sender


@pytest.mark.parametrize("event", TABLE)
@pytest.mark.parametrize("state", STATES)
def test_each_event_in_each_state_does_what_the_table_says(event: str, state: str) -> None:
    expected = TABLE[event][STATES.index(state)]
    assert outcome("KOR", sender_states()[state], sender_events()[event], LATER) == expected


def test_the_table_has_every_event_that_there_is() -> None:
    kinds = {type(e).__name__ for e in sender_events().values()} | {Arrive.__name__}
    assert kinds == {
        "Draft", "Offer", "Approve", "Decline", "Dispatch", "Taken", "Result", "Complete", "Arrive",
    }  # fmt: skip


@pytest.mark.parametrize("state", ["ready", "sent", "with-hub", "blocked"])
def test_the_destinations_receipt_removes_the_outbox_row_and_a_hubs_does_not(state: str) -> None:
    item = sender_states()[state]
    events = sender_events()
    assert step(view("KOR", item), events["receipt"], LATER).forget == (7,)
    assert step(view("KOR", item), events["hub's receipt"], LATER).forget == ()
    assert step(view("KOR", item), events["taken"], LATER).forget == ()
    assert step(view("KOR", item), events["refusal"], LATER).forget == (7,)


@pytest.mark.parametrize("event", ["hub's receipt", "receipt", "refusal"])
def test_a_repeated_result_changes_nothing_and_is_not_journaled_again(event: str) -> None:
    states = {"hub's receipt": "with-hub", "receipt": "delivered", "refusal": "refused"}
    item = sender_states()[states[event]]
    effects = step(view("KOR", item), sender_events()[event], LATER)
    assert (effects.item, effects.journal, effects.send, effects.forget) == (item, (), (), ())


def _chain() -> tuple[Envelope, Envelope]:
    ready = sender_states()["ready"]
    assert ready is not None
    return release_in(ready), release_by_usa(release_in(ready))


FOREIGN_RESULTS: dict[str, Callable[[], Any]] = {
    "from a node that is not next on the path": lambda: receipt("JPN", *_chain(), sender="JPN"),
    "of the sender itself": lambda: receipt("KOR", *_chain()),
    "for another release": lambda: receipt("JPN", _chain()[1]),
    "a refusal for another release": lambda: refusal("JPN", _chain()[1]),
    "a refusal from a node that is not next": lambda: refusal("USA", _chain()[0], sender="JPN"),
}


@pytest.mark.parametrize("case", FOREIGN_RESULTS)
@pytest.mark.parametrize("state", ["ready", "sent", "with-hub", "blocked"])
def test_a_foreign_result_is_refused(case: str, state: str) -> None:
    assert outcome("KOR", sender_states()[state], FOREIGN_RESULTS[case](), LATER) == THEIRS


def test_a_second_receipt_of_the_hub_is_not_kept_beside_the_first() -> None:
    with_hub = sender_states()["with-hub"]
    assert with_hub is not None
    again = receipt("USA", _chain()[0], at=LATER)
    assert outcome("KOR", with_hub, again, LATER) == THEIRS


def test_a_result_ahead_of_our_clock_is_for_later() -> None:
    for event in (receipt("JPN", *_chain(), at=LATER), receipt("USA", _chain()[0], at=LATER)):
        with pytest.raises(NotYet):
            step(view("KOR", sender_states()["sent"]), event, NOW)


# Approvals


def _review() -> Item:
    review = sender_states()["review"]
    assert review is not None
    return review


CHANGED_APPROVALS: dict[str, dict[str, Any]] = {
    "another recipient": {"to": "USA"},
    "another path": {"path": ("KOR", "JPN")},
    "another mark": {
        "legs": (
            Leg("KOR", "USA", "USA:S", "gsomia-kor-usa-1987"),
            Leg("USA", "JPN", "JPN:HI", "gsomia-jpn-usa-2007"),
        )
    },
    "another protecting agreement": {
        "legs": (
            Leg("KOR", "USA", "USA:S", "tisa-2014"),
            Leg("USA", "JPN", "JPN:GOKUHI", "gsomia-jpn-usa-2007"),
        )
    },
    "fewer legs": {"legs": (Leg("KOR", "USA", "USA:S", "gsomia-kor-usa-1987"),)},
    "another citation": {"basis": {ITEM: "tisa-2014/1"}},
    "one more source": {"basis": {ITEM: TISA, "0" * 64: TISA}},
    "another item": {"item": "0" * 64},
    "another party": {"party": "USA"},
    "another officer": {"officer": "lee"},
}


@pytest.mark.parametrize("case", CHANGED_APPROVALS)
def test_an_approval_of_something_else_is_refused(case: str) -> None:
    event = approve(_review(), changed=CHANGED_APPROVALS[case])
    assert outcome("KOR", _review(), event) == OURS
    assert outcome("KOR", _review(), approve(_review())) == "ready"


def test_an_approval_is_bound_to_exactly_what_was_proposed() -> None:
    item = apply("KOR", _review(), approve(_review()))
    release = decode_record(release_in(item), Release)
    assert release.path == ("KOR", "USA", "JPN")
    assert release.legs == (
        Leg("KOR", "USA", "USA:S", "gsomia-kor-usa-1987"),
        Leg("USA", "JPN", "JPN:GOKUHI", "gsomia-jpn-usa-2007"),
    )
    assert release.basis == {ITEM: TISA}
    assert release.approvals == (item.outgoing[0].approvals[0].record_id,)
    assert release.precedence == "PRIORITY"
    assert set(release.agreements) == {"tisa-2014"}


def test_a_proposal_that_changed_is_reviewed_anew() -> None:
    waiting = _review().outgoing[0]
    for changed in (
        replace(waiting.proposal, path=("KOR", "JPN")),
        replace(waiting.proposal, legs=waiting.proposal.legs[:1]),
        replace(waiting.proposal, basis={ITEM: "tisa-2014/1"}),
        replace(waiting.proposal, officers=2),
    ):
        item = replace(_review(), outgoing=(replace(waiting, proposal=changed),))
        effects = step(view("KOR", item), approve(item), LATER)
        assert effects.item is not None
        [outgoing] = effects.item.outgoing
        assert (outgoing.state, outgoing.approvals) == ("review", ())
        assert outgoing.proposal == waiting.proposal
        assert [e["event"] for e in effects.journal] == ["review-again"]
        assert effects.send == ()


def test_the_makers_officer_signs_the_manifest_with_the_approval() -> None:
    event = approve(_review())
    assert outcome("KOR", _review(), replace(event, manifest=None)) == OURS
    other = replace(_review().manifest, at=LATER)
    signed = keys_of("KOR").officers["kim"].sign(other)
    assert outcome("KOR", _review(), replace(event, manifest=signed)) == OURS


@in_world()
async def test_an_approval_is_for_one_review_and_not_for_the_next(world: World) -> None:
    item = await world.share("KOR", "KOR:III", "JPN")
    old = await world.approval("KOR", item, "JPN", "kim")
    await world.decline("KOR", item, "JPN")
    await asyncio.sleep(60)
    await world.asked("KOR", "POST", f"/items/{item}/offer", {"to": "JPN"})
    with pytest.raises(Refused_) as caught:
        await world.asked("KOR", "POST", f"/reviews/{item}/JPN/approve", old)
    assert "not signed in this review" in caught.value.answer["error"]
    assert world["KOR"].outgoing(item, "JPN").state == "review"
    await world.approve("KOR", item, "JPN", "kim")
    assert world["KOR"].outgoing(item, "JPN").state == "ready"


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2015-01-04T23:59:59Z", OURS),
        (NOW, "ready"),
        (LATER, "ready"),
        ("2015-01-05T00:10:01Z", OURS),
    ],
)
def test_an_approval_is_signed_between_the_proposal_and_now(at: str, expected: str) -> None:
    assert outcome("KOR", _review(), approve(_review(), changed={"at": at}), LATER) == expected


# Deciding


@pytest.mark.parametrize(
    ("held_to", "expected"),
    [
        (frozenset(["JPN"]), "blocked"),
        (frozenset(["USA"]), "blocked"),
        (frozenset(["AUS"]), "ready"),
        (frozenset(), "ready"),
    ],
)
def test_a_hold_on_any_party_of_the_path_blocks_the_dispatch(
    held_to: frozenset[str], expected: str
) -> None:
    event = sender_events()["dispatch"]
    assert outcome("KOR", sender_states()["ready"], event, held_to=held_to) == expected


def test_fewer_approvals_than_the_regime_asks_for_now_block_the_dispatch() -> None:
    item = sender_states()["ready"]
    assert item is not None
    [outgoing] = item.outgoing
    assert len(outgoing.approvals) == 1
    short = replace(item, outgoing=(replace(outgoing, approvals=()),))
    effects = step(view("KOR", short), sender_events()["dispatch"], LATER)
    assert effects.item is not None
    assert [(o.state, o.codes) for o in effects.item.outgoing] == [
        ("blocked", ("approval-missing",))
    ]


@pytest.mark.parametrize("state", ["ready", "sent", "with-hub"])
def test_a_decision_that_no_longer_holds_blocks_the_dispatch_and_later_unblocks_it(
    state: str,
) -> None:
    event = sender_events()["dispatch"]
    before_the_arrangement = "2014-12-28T00:00:00Z"
    item = sender_states()[state]
    effects = step(view("KOR", item), event, before_the_arrangement)
    assert effects.item is not None
    [outgoing] = effects.item.outgoing
    assert outgoing.state == "blocked"
    assert "not-in-force" in outgoing.codes
    assert [e["event"] for e in effects.journal] == ["blocked"]
    assert effects.forget == ()
    assert outcome("KOR", effects.item, event, LATER) == "ready"


@pytest.mark.parametrize("state", ["ready", "blocked"])
def test_every_dispatch_is_journaled(state: str) -> None:
    effects = step(view("KOR", sender_states()[state]), sender_events()["dispatch"], LATER)
    release = release_in(sender_states()["ready"] or _review()).record_id
    assert effects.journal == (
        {"event": "dispatch", "item": ITEM, "release": release, "to": "JPN"},
    )


def test_what_the_decision_refuses_is_not_drafted() -> None:
    with pytest.raises(Refused) as caught:
        step(view("KOR", None), draft("JPN"), "2014-12-28T00:00:00Z")
    assert [(d.to, d.codes) for d in caught.value.refusals] == [("JPN", ("not-in-force",))]


# The pure step, at the receiver


def test_what_arrives_is_decided_held_and_proposed_onward() -> None:
    effects = step(view("USA", None), arrive(), NOW)
    assert [e["event"] for e in effects.journal] == ["accept", "held", "decide"]
    item = effects.item
    assert item is not None
    assert (item.state, item.held_as) == ("received", "USA:S")
    assert item.basis == {ITEM: [{"agreement": "tisa-2014", "article": "4"}]}
    [outgoing] = item.outgoing
    assert (outgoing.state, outgoing.proposal.to) == ("review", "JPN")
    [send] = effects.send
    assert send.peer == "KOR"
    assert send.result is not None
    assert decode_record(send.result, Receipt) == Receipt(
        ITEM, "USA", (item.incoming[0].id,), NOW
    )  # fmt: skip


def test_there_is_no_receipt_before_the_ciphertext_is_whole() -> None:
    hop = consignment_hop(ciphertext=False)
    effects = step(view("USA", None), arrive(hop), NOW)
    assert [e["event"] for e in effects.journal] == ["accept"]
    assert effects.send == ()
    item = effects.item
    assert item is not None
    assert item.state == "receiving"
    done = step(view("USA", item), Complete(item.incoming[0].id), LATER)
    assert [e["event"] for e in done.journal] == ["held", "decide"]
    assert done.item is not None
    assert done.item.stored == item.incoming[0].id
    again = step(view("USA", done.item), Complete(item.incoming[0].id), LATER)
    assert (again.item, again.journal, again.send) == (done.item, (), ())


def test_what_is_still_being_received_is_not_passed_on() -> None:
    item = step(view("USA", None), arrive(consignment_hop(ciphertext=False)), NOW).item
    assert outcome("USA", item, Offer("JPN", "ROUTINE", "smith")) == OURS


def test_a_repeat_gets_the_same_answer_and_changes_nothing() -> None:
    first = step(view("USA", None), arrive(), NOW)
    again = step(view("USA", first.item), arrive(), LATER)
    assert again.item == first.item
    assert again.journal == ()
    assert [s.result for s in again.send] == [s.result for s in first.send]


def test_a_repeat_of_what_was_refused_gets_the_same_refusal() -> None:
    early = "2014-12-28T00:00:00Z"
    hop = consignment_hop(change=lambda h: _released_at(h, early))
    first = step(view("USA", None), arrive(hop), early)
    assert first.item is not None
    assert first.item.state == "refused"
    again = step(view("USA", first.item), arrive(hop), LATER)
    assert again.item == first.item
    assert [s.result for s in again.send] == [s.result for s in first.send]


def _resigned(hop: Hop, manifest: Envelope, release: Envelope, *more: Envelope) -> Hop:
    return replace(hop, records=(manifest, release, *more))


def _released_at(hop: Hop, at: str, **changed: Any) -> Hop:
    """The same consignment, made at another instant, without approvals."""
    kim = keys_of("KOR").officers["kim"]
    manifest = replace(decode_record(hop.records[0], Manifest), at=at)
    signed = kim.sign(manifest)
    release = replace(
        decode_record(hop.records[1], Release), item=signed.record_id, at=at,
        basis={signed.record_id: TISA}, approvals=(), **changed,
    )  # fmt: skip
    return Hop(
        (signed, record_by("KOR", release)),
        hop.certificates,
        {signed.record_id: hop.keys[ITEM]},
        {},
        {signed.record_id: CIPHERTEXT},
    )


def test_a_release_ahead_of_our_clock_is_for_later() -> None:
    with pytest.raises(NotYet):
        step(view("USA", None), arrive(), "2015-01-04T23:59:59Z")
    assert step(view("USA", None), arrive(), NOW).item is not None


@pytest.mark.parametrize(
    ("at", "sender"), [("JPN", "KOR"), ("USA", "JPN"), ("KOR", "KOR"), ("JPN", "USA")]
)
def test_a_release_that_is_wrongly_routed_is_refused(at: str, sender: str) -> None:
    assert outcome(at, None, arrive(at=at, sender=sender)) == THEIRS


REFUSED_RELEASES: dict[str, tuple[dict[str, Any], str]] = {
    "a lower mark on the first leg": (
        {
            "legs": (
                Leg("KOR", "USA", "USA:C", "gsomia-kor-usa-1987"),
                Leg("USA", "JPN", "JPN:GOKUHI", "gsomia-jpn-usa-2007"),
            )
        },
        "marks-differ",
    ),
    "a lower mark on the second leg": (
        {
            "legs": (
                Leg("KOR", "USA", "USA:S", "gsomia-kor-usa-1987"),
                Leg("USA", "JPN", "JPN:HI", "gsomia-jpn-usa-2007"),
            )
        },
        "marks-differ",
    ),
    "another protecting agreement": (
        {
            "legs": (
                Leg("KOR", "USA", "USA:S", "tisa-2014"),
                Leg("USA", "JPN", "JPN:GOKUHI", "gsomia-jpn-usa-2007"),
            )
        },
        "marks-differ",
    ),
    "an article that there is not": ({"basis": {ITEM: "tisa-2014/9"}}, "no-agreement"),
    "an article that does not cover it": ({"basis": {ITEM: "tisa-2014/1"}}, "no-common-path"),
    "no source of the label": ({"basis": {"0" * 64: TISA}}, "malformed"),
    "no version of the agreement": ({"agreements": {}}, "malformed"),
    "another version of the agreement": (
        {"agreements": {"tisa-2014": "0" * 64}},
        "agreement-differs",
    ),
    "no approval": ({"approvals": ()}, "approval-missing"),
}


@pytest.mark.parametrize("case", REFUSED_RELEASES)
def test_the_receiver_decides_for_itself_and_refuses_with_a_signed_reason(case: str) -> None:
    """Only the releasing node can make these, so its signature is good; its officers did not
    approve them, so the approvals are left out of all but the last's."""
    changed, code = REFUSED_RELEASES[case]
    hop = consignment_hop()
    release = replace(decode_record(hop.records[1], Release), **{"approvals": (), **changed})
    bad = _resigned(hop, hop.records[0], record_by("KOR", release))
    effects = step(view("USA", None), arrive(bad), NOW)
    item = effects.item
    assert item is not None
    assert (item.state, item.key, item.basis) == ("refused", None, {})
    [send] = effects.send
    assert send.result is not None
    said = decode_record(send.result, Refusal)
    assert (said.party, said.item, said.releases) == ("USA", ITEM, (item.incoming[0].id,))
    assert code in said.codes
    assert [e["event"] for e in effects.journal] == ["refuse"]


def test_a_manifest_that_only_the_node_signed_is_not_a_reviewed_release() -> None:
    hop = consignment_hop()
    manifest = record_by("KOR", decode_record(hop.records[0], Manifest))
    bad = _resigned(hop, manifest, *hop.records[1:])
    bad = replace(
        bad,
        certificates=hop.certificates.with_others(
            Certificates.of([keys_of("KOR").node.certificate])
        ),
    )
    item = step(view("USA", None), arrive(bad), NOW).item
    assert item is not None
    assert item.incoming[0].result is not None
    assert decode_record(item.incoming[0].result, Refusal).codes == ("approval-missing",)


def test_what_is_larger_than_we_take_is_refused_with_its_reason() -> None:
    limit = len(CIPHERTEXT)
    item = step(view("USA", None, ciphertext_bytes_max=limit), arrive(), NOW).item
    assert item is not None
    assert item.state == "received"
    small = step(view("USA", None, ciphertext_bytes_max=limit - 1), arrive(), NOW).item
    assert small is not None
    assert small.incoming[0].result is not None
    assert decode_record(small.incoming[0].result, Refusal).codes == ("too-large",)


@pytest.mark.parametrize("event", [Dispatch("0" * 64), Taken("0" * 64, 1), Complete("0" * 64)])
def test_what_is_about_no_release_of_ours_does_nothing(event: Any) -> None:
    before = sender_states()["ready"]
    try:
        after = step(view("KOR", before), event, NOW)
    except CallerError:
        return
    assert (after.item, after.journal, after.send) == (before, (), ())


def test_an_officer_of_the_hub_who_declines_sends_a_signed_refusal_back() -> None:
    item = step(view("USA", None), arrive(), NOW).item
    effects = step(view("USA", item), Decline("JPN", "smith"), LATER)
    assert effects.item is not None
    assert effects.item.outgoing[0].state == "declined"
    assert [e["event"] for e in effects.journal] == ["decline", "refuse"]
    [send] = effects.send
    assert (send.peer, send.precedence) == ("KOR", "PRIORITY")
    assert send.result is not None
    said = decode_record(send.result, Refusal)
    assert (said.party, said.codes) == ("USA", ("refused-by-officer",))


def test_one_item_takes_256_releases_and_no_more() -> None:
    item = step(view("USA", None), arrive(), NOW).item
    assert item is not None
    many = replace(item, incoming=item.incoming * 256)
    hop = consignment_hop()
    release = replace(decode_record(hop.records[1], Release), seq=5, approvals=())
    another = arrive(_resigned(hop, hop.records[0], record_by("KOR", release)))
    with pytest.raises(PeerError, match="256 times"):
        step(view("USA", many), another, NOW)
    assert step(view("USA", replace(item, incoming=item.incoming * 255)), another, NOW).item


# An item's whole life


async def _approved(world: World, party: str, *to: str, **options: Any) -> str:
    marks = {"KOR": "KOR:III", "JPN": "JPN:HI", "USA": "USA:C"}
    item = await world.share(party, options.pop("mark", marks[party]), *to, **options)
    for each in to:
        await world.approve(party, item, each)
    return item


def _bodies(world: World, party: str, item: str) -> Payload:
    node = world[party].node
    return node.contents.payload(node.item(item))


@in_world()
async def test_an_item_goes_directly_and_its_receipt_comes_back(world: World) -> None:
    watch(world)
    item = await _approved(world, "KOR", "USA", body=b"canary one", title="canary two")
    await world.carry("KOR", "USA")
    assert world["KOR"].outgoing(item, "USA").state == "sent"
    assert len(world["KOR"].outbox()) == 1
    await world.carry("USA", "KOR")
    assert world["KOR"].outgoing(item, "USA").state == "delivered"
    assert world["KOR"].outbox() == []
    assert _bodies(world, "USA", item) == Payload(
        {"title": "canary two", "media_type": "text/plain"}, b"canary one"
    )
    assert world["USA"].item(item).outgoing == ()
    assert not world["JPN"].has(item)
    check_all(world)
    check_kept_secret(world, b"canary one", b"canary two")


@in_world()
async def test_an_item_goes_by_way_of_a_hub_that_reads(world: World) -> None:
    watch(world)
    item = await _approved(world, "KOR", "JPN", mark="KOR:II", body=b"canary")
    await world.settle()
    assert world["KOR"].outgoing(item, "JPN").state == "with-hub"
    assert len(world["KOR"].outbox()) == 1
    assert _bodies(world, "USA", item).body == b"canary"
    assert world["USA"].item(item).held_as == "USA:S"
    assert not world["JPN"].has(item)
    await world.approve("USA", item, "JPN")
    await world.settle()
    assert world["KOR"].outgoing(item, "JPN").state == "delivered"
    assert world["USA"].outgoing(item, "JPN").state == "delivered"
    assert world["JPN"].item(item).held_as == "JPN:GOKUHI"
    assert world["JPN"].item(item).basis == {item: [{"agreement": "tisa-2014", "article": "4"}]}
    assert _bodies(world, "JPN", item).body == b"canary"
    assert [p.outbox() for p in world.places.values()] == [[], [], []]
    results = world["KOR"].outgoing(item, "JPN").results
    assert [decode_record(r, Receipt).party for r in results] == ["USA", "JPN"]
    check_all(world)


@pytest.mark.parametrize("topic", ["blind", "automatic"])
def test_a_hub_that_does_not_read_carries_what_it_cannot_open(topic: str) -> None:
    async def test(world: World) -> None:
        watch(world)
        item = await world.share("KOR", "KOR:III", "JPN", topics=(topic,), body=b"canary")
        if topic == "blind":
            await world.approve("KOR", item, "JPN")
        await world.settle()
        hub = world["USA"].item(item)
        assert (hub.key, hub.state) == (None, "passing")
        with pytest.raises(CallerError, match="without being able to read"):
            world["USA"].node.contents.payload(hub)
        assert _bodies(world, "JPN", item).body == b"canary"
        assert world["KOR"].outgoing(item, "JPN").state == "delivered"
        for sight in world.sights:
            assert sight.hop is None or not sight.hop.keys
        signers = {"blind": "officer", "automatic": "node"}
        made = world["JPN"].item(item)
        verified = world["JPN"].node.trust.verify(
            made.manifest_envelope, Manifest, party="KOR", roles=(signers[topic],),
            at=made.manifest.at, certificates=made.certificates,
        )  # fmt: skip
        assert [v.role for v in verified] == [signers[topic]]
        check_all(world)
        check_kept_secret(world, b"canary")

    with World("carried") as world:
        world.run(test(world))


@in_world("carried")
async def test_a_hub_that_does_not_read_sees_exactly_these(world: World) -> None:
    item = await _approved(world, "KOR", "JPN", topics=("blind",))
    await world.carry("KOR", "USA")
    [hop] = [s.hop for s in world.sights if s.receiver == "USA" and s.hop is not None]
    kinds = [record.payload_type for record in hop.records]
    assert kinds == [Manifest.type(), Release.type(), Approval.type()]
    assert (dict(hop.keys), list(hop.sealed_keys), list(hop.ciphertexts)) == ({}, [item], [item])
    with pytest.raises(Refused_) as caught:
        await world.asked("USA", "GET", f"/items/{item}/payload")
    assert caught.value.status == 409


@in_world("carried")
async def test_a_release_takes_two_different_officers_where_two_are_asked_for(
    world: World,
) -> None:
    item = await world.share("KOR", "KOR:II", "JPN", topics=("reviewed",))
    await world.approve("KOR", item, "JPN", "kim")
    assert world["KOR"].outgoing(item, "JPN").state == "review"
    with pytest.raises(Refused_) as caught:
        await world.approve("KOR", item, "JPN", "kim")
    assert "kim approved this already" in caught.value.answer["error"]
    assert world["KOR"].outgoing(item, "JPN").state == "review"
    assert world["KOR"].outbox() == []
    await world.approve("KOR", item, "JPN", "lee")
    assert world["KOR"].outgoing(item, "JPN").state == "ready"
    await world.settle()
    assert world["USA"].outgoing(item, "JPN").proposal.officers == 2
    await world.approve("USA", item, "JPN")
    await world.settle()
    assert world["KOR"].outgoing(item, "JPN").state == "delivered"
    check_all(world)


@in_world("carried")
async def test_one_officer_with_two_keys_is_one_officer(world: World) -> None:
    item = await world.share("KOR", "KOR:II", "JPN", topics=("reviewed",))
    await world.approve("KOR", item, "JPN", "kim")
    waiting = world["KOR"].item(item)
    keys = keys_of("KOR")
    second = person(keys.ca, keys.ca_key, "officer", "kim", words="second")
    approval = decode_record(waiting.outgoing[0].approvals[0], Approval)
    later = replace(approval, at="2015-01-05T00:00:00Z")
    event = replace(
        approve(waiting, officer="kim"),
        approval=second.sign(later),
        manifest=second.sign(waiting.manifest),
        officer=Verified("officer", "kim", second.signer.keyid),
        certificate=second.certificate,
    )
    with pytest.raises(CallerError, match="kim approved this already"):
        await world["KOR"].node.happen(item, event)
    assert world["KOR"].outgoing(item, "JPN").state == "review"


@in_world()
async def test_an_officer_of_another_party_or_a_stranger_approves_nothing(world: World) -> None:
    item = await world.share("KOR", "KOR:III", "JPN")
    before = world["KOR"].item(item)
    body = await world.approval("KOR", item, "JPN", "kim")
    record = Envelope.from_json(body["approval"])
    stranger = keys_of("KOR", generation=1).officers["kim"]
    for other in (keys_of("USA").officers["smith"], stranger, keys_of("KOR").node):
        approval = other.sign(decode_record(record, Approval))
        forged = {
            **body,
            "approval": approval.to_json(),
            "certificate": base64.b64encode(other.certificate).decode(),
        }
        with pytest.raises(Refused_):
            await world.asked("KOR", "POST", f"/reviews/{item}/JPN/approve", forged)
        mixed = {**body, "certificate": forged["certificate"]}
        with pytest.raises(Refused_):
            await world.asked("KOR", "POST", f"/reviews/{item}/JPN/approve", mixed)
    assert world["KOR"].item(item) == before


@in_world()
async def test_a_direct_line_that_opens_sends_a_waiting_item_back_to_review(world: World) -> None:
    """The agreement of 2016 lets Seoul reach Tokyo directly, with two officers for grade II."""
    item = await world.share("KOR", "KOR:II", "JPN")
    assert world["KOR"].outgoing(item, "JPN").proposal.path == ("KOR", "USA", "JPN")
    old = await world.approval("KOR", item, "JPN", "kim")
    await world.set_clocks("2016-12-01T00:00:00Z")
    await world.asked("KOR", "POST", f"/reviews/{item}/JPN/approve", old)
    waiting = world["KOR"].outgoing(item, "JPN")
    assert (waiting.state, waiting.approvals, waiting.release) == ("review", (), None)
    assert waiting.proposal.path == ("KOR", "JPN")
    assert waiting.proposal.officers == 2
    with pytest.raises(Refused_):
        await world.asked("KOR", "POST", f"/reviews/{item}/JPN/approve", old)
    assert world["KOR"].journal("review-again") != []


@in_world()
async def test_what_the_hubs_officer_declines_comes_back_signed_and_the_item_stays(
    world: World,
) -> None:
    watch(world)
    item = await _approved(world, "KOR", "JPN")
    await world.settle()
    await world.decline("USA", item, "JPN")
    await world.settle()
    outgoing = world["KOR"].outgoing(item, "JPN")
    assert (outgoing.state, outgoing.codes) == ("refused", ("refused-by-officer",))
    said = decode_record(outgoing.results[-1], Refusal)
    assert (said.party, said.item) == ("USA", item)
    assert world["KOR"].outbox() == []
    assert _bodies(world, "KOR", item).body == b"what was seen"
    assert not world["JPN"].has(item)
    await world.asked("KOR", "POST", f"/items/{item}/offer", {"to": "JPN"})
    await world.approve("KOR", item, "JPN")
    await world.settle()
    await world.approve("USA", item, "JPN")
    await world.settle()
    assert world["KOR"].outgoing(item, "JPN").state == "delivered"
    assert len(world["JPN"].journal("held")) == 1
    check_all(world)


@in_world()
async def test_our_own_officer_declines_and_nothing_leaves(world: World) -> None:
    item = await world.share("KOR", "KOR:III", "JPN")
    await world.decline("KOR", item, "JPN")
    await world.settle()
    assert world["KOR"].outgoing(item, "JPN").state == "declined"
    assert not world["USA"].has(item)
    assert [s for s in world.sights if s.path.endswith("/hop")] == []


@in_world()
async def test_all_recipients_are_decided_before_anything_is_kept(world: World) -> None:
    before = set(world["KOR"].store.state.documents)
    with pytest.raises(Refused_) as caught:
        await world.share("KOR", "KOR:I", "USA", "JPN")
    assert caught.value.codes.keys() == {"JPN"}
    assert world["KOR"].store.state.documents.keys() == before
    codes = list(dict.fromkeys(caught.value.codes["JPN"]))
    entries = world["KOR"].journal("decide")
    assert [(e["decision"], e["to"], e["asked"], e["codes"]) for e in entries] == [
        ("deny", "JPN", "draft", codes)
    ]


@in_world()
async def test_every_refusal_by_the_decision_is_journaled_with_its_codes(world: World) -> None:
    item = await _approved(world, "KOR", "USA", readers=("USA",))
    await world.settle()
    for party in ("USA", "KOR"):
        with pytest.raises(Refused_) as caught:
            await world.asked(party, "POST", f"/items/{item}/offer", {"to": "JPN"})
        [entry] = [e for e in world[party].journal("decide") if e["decision"] == "deny"]
        assert entry["codes"] == caught.value.codes["JPN"]
        assert (entry["item"], entry["to"], entry["asked"]) == (item, "JPN", "offer")


@in_world()
async def test_reading_and_listing_are_journaled_before_anything_is_told(world: World) -> None:
    item = await _approved(world, "KOR", "USA")
    for target, event in (
        (f"/items/{item}", "show"),
        ("/items", "show"),
        (f"/items/{item}/payload", "read"),
    ):
        count = len(world["KOR"].journal())
        response = await world.ask("KOR", "GET", target)
        assert response.status == 200
        entry = world["KOR"].journal()[count]
        assert (entry["event"], entry["by"]) == (event, "operator")


# Holds


@in_world()
async def test_a_hold_blocks_what_is_ready_and_lifts(world: World) -> None:
    item = await _approved(world, "KOR", "JPN")
    await world.hold("KOR", "JPN", on=True)
    await world.carry("KOR", "USA")
    outgoing = world["KOR"].outgoing(item, "JPN")
    assert (outgoing.state, outgoing.codes) == ("blocked", ("on-hold",))
    assert not world["USA"].has(item)
    assert [s for s in world.sights if s.path.endswith("/hop")] == []
    await world.hold("KOR", "JPN", on=False)
    await world.settle()
    assert world["KOR"].outgoing(item, "JPN").state == "with-hub"


@in_world()
async def test_a_hold_of_the_hub_keeps_the_item_there_and_receipts_go_on(world: World) -> None:
    item = await _approved(world, "KOR", "JPN")
    back = await _approved(world, "JPN", "KOR")
    await world.hold("USA", "JPN", on=True)
    await world.settle()
    await world.approve("USA", item, "JPN")
    await world.approve("USA", back, "KOR")
    await world.settle()
    assert world["USA"].outgoing(item, "JPN").codes == ("on-hold",)
    assert not world["JPN"].has(item)
    assert world["JPN"].outgoing(back, "KOR").state == "delivered"
    await world.hold("USA", "JPN", on=False)
    await world.settle()
    assert world["KOR"].outgoing(item, "JPN").state == "delivered"
    assert [(e["to"], e["on"]) for e in world["USA"].journal("hold")] == [
        ("JPN", True), ("JPN", False),
    ]  # fmt: skip


@in_world()
async def test_a_hold_that_was_lifted_cannot_be_laid_again_by_replaying_it(world: World) -> None:
    draft_ = await world.asked("KOR", "POST", "/holds/draft", {"to": "USA", "on": True})
    kim = keys_of("KOR").officers["kim"]
    record = Hold.from_json(json.loads(base64.b64decode(draft_["hold"])))
    envelope = kim.sign(record)
    body = {
        "hold": envelope.to_json(),
        "certificate": base64.b64encode(kim.certificate).decode(),
    }
    await world.asked("KOR", "POST", "/holds", body)
    await world.hold("KOR", "USA", on=False)
    with pytest.raises(Refused_):
        await world.asked("KOR", "POST", "/holds", body)
    assert Holds(world["KOR"].node).draft("USA", on=True).seq > record.seq
    smith = keys_of("USA").officers["smith"]
    foreign = {
        "hold": smith.sign(record).to_json(),
        "certificate": base64.b64encode(smith.certificate).decode(),
    }
    with pytest.raises(Refused_):
        await world.asked("KOR", "POST", "/holds", foreign)


# Repeats, replays and strangers


async def _sent(world: World) -> tuple[str, bytes]:
    """An item that Washington has, with the bytes that brought it."""
    item = await _approved(world, "KOR", "USA")
    await world.carry("KOR", "USA")
    [sight] = [s for s in world.sights if s.path.endswith("/hop") and s.receiver == "USA"]
    return item, sight.body


def _kept(state: State) -> Any:
    """All but what is owed: the answer to a repeat is owed again."""
    documents = {key: row for key, row in state.documents.items() if key[0] != "owed"}
    return documents, state.journal, state.meta


@in_world()
async def test_a_replayed_message_is_applied_once_and_answered_alike(world: World) -> None:
    _, body = await _sent(world)
    await world.settle()
    before = world["USA"].store.state
    for _ in range(3):
        assert await world.post_bytes("KOR", "USA", body) == 200
        assert _kept(world["USA"].store.state) == _kept(before)
    [receipts] = [
        {json.dumps(json.loads(row.body)["result"]) for row in world["USA"].outbox("KOR")}
    ]
    assert len(receipts) == 1
    await world.settle()
    assert world["USA"].outbox() == []
    assert len(world["KOR"].journal("delivered")) == 1


@pytest.mark.parametrize("end", ["receipt", "refusal"])
def test_a_hubs_receipt_that_was_overtaken_is_kept_and_changes_nothing_else(end: str) -> None:
    """Its message was lost and came again after what settles the release."""

    @in_world("carried")
    async def run(world: World) -> None:
        if end == "receipt":
            item = await world.share("KOR", "KOR:III", "JPN", topics=("passed",))
        else:
            item = await _approved(world, "KOR", "JPN", topics=("reviewed",))
        await world.carry("KOR", "USA")
        if end == "receipt":
            await world.carry("USA", "JPN")
            await world.carry("JPN", "USA")
        else:
            await world.decline("USA", item, "JPN")
        first, *later = world["USA"].outbox("KOR")
        courier = world["USA"].couriers["KOR"]
        await courier.carry(later)
        settled = world["KOR"].outgoing(item, "JPN")
        assert (settled.state, len(settled.results)) == (
            {"receipt": "delivered", "refusal": "refused"}[end], 1,
        )  # fmt: skip
        await courier.carry([first])
        after = world["KOR"].outgoing(item, "JPN")
        parties = [
            decode_record(r, Receipt).party
            for r in after.results
            if r.payload_type == Receipt.type()
        ]
        assert "USA" in parties
        assert replace(after, results=settled.results) == settled
        assert world["USA"].journal("result-rejected") == []
        assert [e["party"] for e in world["KOR"].journal("with-hub")] == ["USA"]
        assert world["USA"].outbox("KOR") == []
        await world.settle()
        assert world["KOR"].outgoing(item, "JPN") == after

    run()


@in_world()
async def test_a_flood_of_replays_does_not_fill_the_outbox(world: World) -> None:
    _, body = await _sent(world)
    for _ in range(20):
        assert await world.post_bytes("KOR", "USA", body) == 200
    assert len(world["USA"].outbox("KOR")) == 1


@in_world()
async def test_a_message_replayed_by_another_or_to_another_is_refused(world: World) -> None:
    _, body = await _sent(world)
    states = {party: place.store.state for party, place in world.places.items()}
    assert await world.post_bytes("JPN", "USA", body) == 400
    assert await world.post_bytes("USA", "JPN", body) in (400, 409)
    assert await world.post_bytes("KOR", "JPN", body) == 400  # no line between them
    assert {p: place.store.state for p, place in world.places.items()} == states


@in_world()
async def test_an_old_message_still_changes_nothing_after_a_restart(world: World) -> None:
    _, body = await _sent(world)
    await world.settle()
    await world.restart("USA")
    before = world["USA"].store.state
    assert await world.post_bytes("KOR", "USA", body) == 200
    assert _kept(world["USA"].store.state) == _kept(before)


@in_world()
async def test_a_message_for_a_key_that_has_ended_is_sealed_again(world: World) -> None:
    item, body = await _sent(world)
    await world["USA"].node.submit(
        lambda tx: [tx.delete("hpke-key", row.key) for row in tx.listing("hpke-key", limit=9)]
    )
    world["USA"].clock.wrong_by_s += 8 * 24 * 3600
    world["KOR"].clock.wrong_by_s += 8 * 24 * 3600
    for place in world.places.values():
        await place.node.renew_key()
    assert await world.post_bytes("KOR", "USA", body) == 409
    second = await _approved(world, "KOR", "USA", body=b"another")
    await world.settle()
    assert world["KOR"].outgoing(second, "USA").state == "delivered"
    assert world["KOR"].outgoing(item, "USA").state == "delivered"


@in_world()
async def test_a_key_made_while_the_clock_ran_ahead_is_renewed_once_it_is_right(
    world: World,
) -> None:
    """Ahead of the certificate, that is: nobody takes what announces that key."""
    place = world["USA"]
    years_s = 30 * 365 * 24 * 3600
    place.clock.wrong_by_s = years_s
    await place.node.renew_key()
    ahead = decode_record(place.node.node_key(), NodeKey)
    assert ahead.expires > "2044"
    place.clock.wrong_by_s = 0
    await place.node.renew_key()
    key = decode_record(place.node.node_key(), NodeKey)
    assert (key.at[:10], key.expires[:10]) == ("2015-01-05", "2015-01-12")
    assert key.seq > ahead.seq
    item = await _approved(world, "KOR", "USA")
    await world.settle()
    assert world["KOR"].outgoing(item, "USA").state == "delivered"
    keys = {
        k: row.rank for (kind, k), row in place.store.state.documents.items() if kind == "hpke-key"
    }
    assert {rank[:10] for rank in keys.values()} == {"2015-01-12"}
    await place.node.renew_key()
    assert decode_record(place.node.node_key(), NodeKey) == key
    place.clock.wrong_by_s = 8 * 24 * 3600
    await place.node.renew_key()
    assert not keys.keys() & {k for kind, k in place.store.state.documents if kind == "hpke-key"}


@in_world("carried")
async def test_a_hub_that_passes_on_an_earlier_key_is_not_believed(world: World) -> None:
    calls = world["KOR"].couriers["USA"].calls
    earlier = await calls.key_of("JPN", fresh=True)
    [told] = _peer_keys(world["USA"], "JPN")
    for place in world.places.values():
        place.clock.wrong_by_s = 6.5 * 24 * 3600
    await world["JPN"].node.renew_key()
    await world["USA"].couriers["JPN"].calls.key_of("JPN", fresh=True)
    later = await calls.key_of("JPN", fresh=True)
    assert later.raw != earlier.raw
    await world["USA"].node.submit(lambda tx: tx.put("peer-key", "JPN", told.body, rank=told.rank))
    with pytest.raises(PeerError, match="older than the one before"):
        await calls.key_of("JPN", fresh=True)
    await world.restart("KOR")
    with pytest.raises(PeerError, match="older than the one before"):
        await world["KOR"].couriers["USA"].calls.key_of("JPN")


def _peer_keys(place: Place, party: str) -> list[Row]:
    with place.store.read() as reader:
        return [r for r in reader.listing("peer-key", limit=9) if r.key == party]


@in_world()
async def test_a_release_from_the_future_waits_and_is_not_refused(world: World) -> None:
    world["USA"].clock.wrong_by_s = -3600
    item = await _approved(world, "KOR", "USA")
    before = world["USA"].store.state
    await world.carry("KOR", "USA")
    assert world["USA"].store.state == before
    assert world["KOR"].outgoing(item, "USA").state == "ready"
    [row] = world["KOR"].outbox()
    assert "503" in row.error
    world["USA"].clock.wrong_by_s = 0
    await world.settle()
    assert world["KOR"].outgoing(item, "USA").state == "delivered"


async def _answered(world: World) -> tuple[str, Hop, Hop]:
    """An item at all three; both hop messages with receipts that Seoul got."""
    item = await _approved(world, "KOR", "JPN")
    await world.carry("KOR", "USA")
    await world.approve("USA", item, "JPN")
    await world.carry("USA", "JPN")
    await world.carry("JPN", "USA")
    hops = []
    for row in world["USA"].outbox("KOR"):
        result = Envelope.from_json(json.loads(row.body)["result"])
        certificates = world["USA"].item(item).certificates.for_envelopes([result])
        hops.append(Hop((result,), certificates))
    return item, hops[0], hops[1]


FORGERIES: dict[str, Callable[[Hop, Receipt], Hop]] = {
    "the hub signs the destination's receipt": lambda hop, r: Hop(
        (record_by("USA", r),), Certificates.of([keys_of("USA").node.certificate])
    ),
    "the hub's certificate under the destination's signature": lambda hop, r: replace(
        hop, certificates=Certificates.of([keys_of("USA").node.certificate])
    ),
    "without a certificate": lambda hop, r: replace(hop, certificates=Certificates()),
    "somebody who says that he is the destination": lambda hop, r: Hop(
        (keys_of("JPN", generation=1).node.sign(r),),
        Certificates.of([keys_of("JPN", generation=1).node.certificate]),
    ),
    "an officer of the destination instead of its node": lambda hop, r: Hop(
        (keys_of("JPN").officers["sato"].sign(r),),
        Certificates.of([keys_of("JPN").officers["sato"].certificate]),
    ),
    "for another item": lambda hop, r: Hop(
        (record_by("JPN", replace(r, item="0" * 64)),),
        Certificates.of([keys_of("JPN").node.certificate]),
    ),
    "for another release": lambda hop, r: Hop(
        (record_by("JPN", replace(r, releases=("0" * 64,))),),
        Certificates.of([keys_of("JPN").node.certificate]),
    ),
    "one bit of the signature": lambda hop, r: replace(
        hop,
        records=(
            replace(
                hop.records[0],
                signatures=(
                    replace(hop.records[0].signatures[0], sig=bytes(64)),
                ),
            ),
        ),
    ),
    "another kind with the same bytes": lambda hop, r: replace(
        hop, records=(replace(hop.records[0], payload_type=Refusal.type()),)
    ),
    "an unknown major version": lambda hop, r: replace(
        hop,
        records=(
            replace(
                hop.records[0],
                payload_type=Receipt.type().replace("v1", "v2"),
            ),
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FORGERIES)
def test_a_forged_receipt_is_refused_and_changes_nothing(case: str) -> None:
    async def test(world: World) -> None:
        item, _, hop = await _answered(world)
        real = decode_record(hop.records[0], Receipt)
        assert real.party == "JPN"
        before = world["KOR"].store.state
        assert await world.post("USA", "KOR", FORGERIES[case](hop, real)) == 400
        assert world["KOR"].store.state == before
        assert len(world["KOR"].outbox()) == 1
        assert await world.post("USA", "KOR", hop) == 200
        assert world["KOR"].outgoing(item, "JPN").state == "delivered"
        assert world["KOR"].outbox() == []

    with World() as world:
        world.run(test(world))


@in_world()
async def test_a_hubs_receipt_or_a_200_alone_leave_the_item_owed(world: World) -> None:
    item, hubs, destinations = await _answered(world)
    assert world["KOR"].outgoing(item, "JPN").state == "sent"
    assert await world.post("USA", "KOR", hubs) == 200
    assert world["KOR"].outgoing(item, "JPN").state == "with-hub"
    assert len(world["KOR"].outbox()) == 1
    assert await world.post("USA", "KOR", destinations) == 200
    assert world["KOR"].outbox() == []
    assert await world.post("USA", "KOR", destinations) == 200
    assert len(world["KOR"].journal("delivered")) == 1


@in_world()
async def test_results_of_a_party_are_only_taken_from_the_next_on_the_path(world: World) -> None:
    item = await _approved(world, "USA", "JPN", "KOR", topics=("cyber",), readers=("JPN", "KOR"))
    await world.carry("USA", "JPN")
    await world.carry("USA", "KOR")
    release = world["USA"].outgoing(item, "JPN").release
    assert release is not None
    said = record_by("JPN", Receipt(item, "JPN", (release.record_id,), NOW))
    hop = Hop((said,), Certificates.of([keys_of("JPN").node.certificate]))
    before = world["USA"].store.state
    assert await world.post("KOR", "USA", hop) == 400
    assert world["USA"].store.state == before
    assert await world.post("JPN", "USA", hop) == 200


STRANGE_BYTES: dict[str, bytes] = {
    "nothing": b"",
    "a few bytes": b"hello",
    "a key id alone": bytes(32),
    "an unknown key": bytes(2000),
}


@pytest.mark.parametrize("case", STRANGE_BYTES)
def test_strange_bytes_get_a_refusal_and_change_nothing(case: str) -> None:
    async def test(world: World) -> None:
        before = world["USA"].store.state
        assert await world.post_bytes("KOR", "USA", STRANGE_BYTES[case]) in (400, 409)
        assert world["USA"].store.state == before

    with World() as world:
        world.run(test(world))


@in_world()
async def test_every_refusal_to_a_peer_is_the_same_bytes(world: World) -> None:
    """Rule 7: for an item that is absent, denied, not on its path, or malformed."""
    item, body = await _sent(world)
    target = world["USA"].item(item).incoming[0].id
    for path, query, data in (
        ("/relto/v1/hop", "", b"x"),
        (f"/relto/v1/ciphertext/{target}", "offset=0", b"x"),
        (f"/relto/v1/ciphertext/{'0' * 64}", "offset=0", b"x"),
        (f"/relto/v1/ciphertext/{target}", "offset=-1", b"x"),
        ("/relto/v1/items", "", b""),
        ("/", "", b""),
    ):
        for peer in ("KOR", "JPN"):
            status = await world.post_bytes(peer, "USA", data, path=path, query=query)
            assert status == 400
    assert await world.post_bytes("JPN", "USA", body) == 400
    assert len(world.refusals) == 1


@in_world()
async def test_only_the_nodes_of_peers_are_peers(world: World) -> None:
    assert world.is_peer("USA", keys_of("KOR").tls) == "KOR"
    for certificate in (
        keys_of("KOR").node.certificate,
        keys_of("KOR").officers["kim"].certificate,
        keys_of("KOR").ca_der,
        keys_of("KOR", generation=1).tls,
        keys_of("USA").tls,
    ):
        with pytest.raises(PeerError):
            world.is_peer("USA", certificate)
    with pytest.raises(PeerError):
        world.is_peer("KOR", keys_of("JPN").tls)


# The courier


@in_world(lanes=True)
async def test_one_row_is_in_one_lanes_hands_at_a_time(world: World) -> None:
    """Both lanes carry FLASH; one that gives up must not end the lease of the other."""
    await asyncio.sleep(1)
    world["KOR"].couriers["USA"].calls._keys.clear()  # so that it asks before it sends
    world.sights.clear()
    world.weather = Weather(request_lost=1.0)
    await _approved(world, "KOR", "USA", precedence="FLASH")
    await asyncio.sleep(1)
    assert [s.path for s in world.sights if s.sender == "KOR"] == ["/relto/v1/node-key/USA"]


@in_world()
async def test_a_hold_does_not_end_the_lease_of_what_is_leaving(world: World) -> None:
    await _approved(world, "KOR", "USA")
    [row] = world["KOR"].outbox()
    until_ms = world["KOR"].clock.monotonic_ms() + 5_000
    await world["KOR"].node.submit(lambda tx: tx.outbox_lease(row.number, until_ms))
    await world.hold("KOR", "USA", on=True)
    assert [r.lease_until_ms for r in world["KOR"].outbox()] == [until_ms]


@in_world("carried", lanes=True)
async def test_flash_goes_before_what_waited_longer(world: World) -> None:
    world.cut.add(frozenset(("KOR", "USA")))
    for precedence in ("ROUTINE", "PRIORITY", "FLASH", "IMMEDIATE"):
        await world.share(
            "KOR", "KOR:III", "JPN", topics=("passed",), precedence=precedence,
            title=precedence, body=precedence.encode(),
        )  # fmt: skip
    await asyncio.sleep(60)
    world.cut.clear()
    await asyncio.sleep(60)
    arrived = [e["item"] for e in world["USA"].journal("held")]
    assert [world["USA"].item(i).precedence for i in arrived] == [
        "FLASH", "IMMEDIATE", "PRIORITY", "ROUTINE",
    ]  # fmt: skip


# Contents that follow in ranges


@in_world()
async def test_a_large_content_comes_in_ranges_and_is_receipted_when_it_is_whole(
    world: World,
) -> None:
    watch(world)
    item = await _approved(world, "KOR", "JPN", body=bytes(150_000))
    world.loses = lambda path: "/ciphertext/" in path
    await world.settle()
    assert world["USA"].item(item).state == "receiving"
    assert world["USA"].outbox() == []
    world.loses = lambda path: False
    await world.settle()
    await world.approve("USA", item, "JPN")
    await world.settle()
    await world.settle()
    assert world["KOR"].outgoing(item, "JPN").state == "delivered"
    assert _bodies(world, "JPN", item).body == bytes(150_000)
    check_all(world)


@in_world()
async def test_a_large_content_that_comes_again_leaves_nothing_behind(world: World) -> None:
    """What a receiver has already comes again whole: the transfer does not show that it had it."""
    item = await _approved(world, "KOR", "USA", body=bytes(150_000))
    await world.settle()
    blobs = world["USA"].store.blob_names()
    await world.asked("KOR", "POST", f"/items/{item}/offer", {"to": "JPN"})
    await world.approve("KOR", item, "JPN")
    ranges = len([s for s in world.sights if "/ciphertext/" in s.path])
    await world.settle()
    assert len([s for s in world.sights if "/ciphertext/" in s.path]) == 2 * ranges
    assert world["KOR"].outgoing(item, "JPN").state == "with-hub"
    assert world["USA"].store.blob_names() == blobs
    assert not [key for kind, key in world["USA"].store.state.documents if kind == "receiving"]
    await world.approve("USA", item, "JPN")
    await world.settle()
    assert world["KOR"].outgoing(item, "JPN").state == "delivered"
    assert _bodies(world, "JPN", item).body == bytes(150_000)


@in_world()
async def test_a_draft_that_finds_the_disk_full_leaves_nothing_behind(world: World) -> None:
    world.plan_fault = lambda party: Fault.FULL
    with pytest.raises(Refused_) as caught:
        await world.share("KOR", "KOR:III", "USA", body=bytes(150_000))
    assert caught.value.status == 503
    assert world["KOR"].store.blob_names() == []
    assert list(world["KOR"].items()) == []


@in_world()
async def test_a_full_disk_takes_flash_and_receipts_and_asks_others_to_come_back(
    world: World,
) -> None:
    item = await _approved(world, "USA", "KOR", topics=("cyber",), precedence="ROUTINE")
    await world.carry("USA", "KOR")
    world["USA"].store.release_ballast()
    with pytest.raises(Refused_) as caught:
        await world.share("USA", "USA:C", "KOR", topics=("cyber",))
    assert caught.value.status == 503
    routine = await _approved(world, "KOR", "USA", precedence="ROUTINE")
    flash = await _approved(world, "KOR", "USA", precedence="FLASH", body=b"now")
    await world.settle()
    assert world["USA"].outgoing(item, "KOR").state == "delivered"
    assert world["KOR"].outgoing(flash, "USA").state == "delivered"
    assert world["KOR"].outgoing(routine, "USA").state == "ready"
    await world["USA"].node.find_room()
    await world.settle()
    assert world["KOR"].outgoing(routine, "USA").state == "delivered"


@in_world()
async def test_a_content_that_was_receipted_survives_a_death(world: World) -> None:
    item = await _approved(world, "KOR", "USA", body=b"x" * 150_000)
    await world.restart("KOR")
    assert world["KOR"].store.blob_names() != []
    assert _bodies(world, "KOR", item).body == b"x" * 150_000
    await world.settle()
    assert world["KOR"].outgoing(item, "USA").state == "delivered"
    await world.restart("USA")
    size = world["USA"].item(item).manifest.ciphertext_bytes
    assert world["USA"].store.blob_size(world["USA"].item(item).stored) == size
    assert _bodies(world, "USA", item).body == b"x" * 150_000


@in_world()
async def test_ranges_that_do_not_belong_are_refused(world: World) -> None:
    item = await _approved(world, "KOR", "USA", body=bytes(150_000))
    world.loses = lambda path: "/ciphertext/" in path
    await world.carry("KOR", "USA")
    world.loses = lambda path: False
    release = world["USA"].item(item).incoming[0].id
    size = world["USA"].item(item).manifest.ciphertext_bytes
    path = f"/relto/v1/ciphertext/{release}"

    async def post(peer: str, offset: int, data: bytes) -> int:
        return await world.post_bytes(peer, "USA", data, path=path, query=f"offset={offset}")

    assert await post("JPN", 0, b"x") == 400
    assert await post("KOR", 0, b"") == 400
    assert await post("KOR", size, b"x") == 400
    assert await post("KOR", 0, bytes(size + 1)) == 400
    assert await post("KOR", 0, bytes(size)) == 400  # not what the manifest states
    assert world["USA"].item(item).state == "receiving"
    assert world["USA"].store.blob_size(release) == 0
    await world.settle()
    await world.settle()
    assert world["KOR"].outgoing(item, "USA").state == "delivered"
    assert await post("KOR", 0, b"x") == 400  # nothing waits for it any more


# Derived items


@in_world()
async def test_a_derived_item_keeps_its_sources_and_what_each_is_held_by(world: World) -> None:
    watch(world)
    source = await _approved(world, "KOR", "JPN", mark="KOR:II")
    await world.settle()
    await world.approve("USA", source, "JPN")
    await world.settle()
    built = await world.share(
        "JPN", "JPN:GOKUHI", "KOR", kind="assessment", readers=("KOR", "USA"), sources=(source,)
    )
    made = world["JPN"].item(built)
    assert made.basis == {source: [{"agreement": "tisa-2014", "article": "4"}]}
    label = made.manifest.label
    assert [s["item"] for s in label["sources"]] == ["self", source]
    assert label["sources"][1]["held_as"] == "JPN:GOKUHI"
    assert label["sources"][1]["originator"] == "KOR"
    await world.approve("JPN", built, "KOR")
    await world.settle()
    hub = world["USA"].item(built)
    assert hub.basis == {
        "self": [{"agreement": "tisa-2014", "article": "4"}],
        source: [{"own-information": "tisa-2014/4"}],
    }
    await world.approve("USA", built, "KOR")
    await world.settle()
    assert world["JPN"].outgoing(built, "KOR").state == "delivered"
    back = world["KOR"].item(built)
    assert back.basis == {"self": [{"agreement": "tisa-2014", "article": "4"}]}
    check_all(world)


@in_world()
async def test_what_is_built_on_an_item_for_nobody_else_goes_to_nobody_else(world: World) -> None:
    source = await _approved(world, "KOR", "USA", readers=("USA",))
    await world.settle()
    with pytest.raises(Refused_) as caught:
        await world.share("USA", "USA:S", "JPN", kind="assessment", sources=(source,))
    assert "not-releasable" in caught.value.codes["JPN"]


# Journal


@in_world()
async def test_the_journal_is_a_chain_of_ids_and_codes(world: World) -> None:
    item, _, _ = await _answered(world)
    for place in world.places.values():
        links = [JOURNAL_START, *(row.link for row in place.store.state.journal)]
        for row, (previous, link) in zip(place.store.state.journal, pairwise(links), strict=True):
            assert journal_link(previous, salt=row.salt, entry=row.entry) == link
            assert b"A report" not in row.entry
        assert any(e.get("item") == item for e in place.journal())


@pytest.mark.parametrize("early_s", [0, 1])
def test_a_node_signs_nothing_while_its_certificate_does_not_cover_its_clock(early_s: int) -> None:
    """Nobody would believe it: what asked for the signature is to be tried again (F-11)."""
    review = sender_states()["review"]
    assert review is not None
    begins = moment(NOW) + timedelta(seconds=early_s)
    for party, item, event in (("KOR", review, approve(review)), ("USA", None, arrive())):
        keys = keys_of(party)
        key = decode_certificate(keys.node.certificate).public_key()
        assert isinstance(key, Ed25519PublicKey)
        certificate = issue(
            ca=keys.ca, ca_key=keys.ca_key, public_key=key, role="node", name=None, now=begins,
            validity=(begins, begins + timedelta(days=90)),
        )  # fmt: skip
        asked = view(party, item, certificate=der(certificate))
        if early_s:
            with pytest.raises(NotYet, match="our node's certificate is not valid"):
                step(asked, event, NOW)
        else:
            assert step(asked, event, NOW).send
