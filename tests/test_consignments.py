"""A consignment: everything a release needs, verified before anything is done with it.

A hub that lies has its own keys and its own officers' hands, and nobody else's.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from relto.consignments import verify_consignment
from relto.decisions import Leg
from relto.envelope import Envelope, Signature
from relto.errors import PeerError
from relto.hop import Hop
from relto.records import (
    Approval,
    Hold,
    Manifest,
    NodeKey,
    Receipt,
    Record,
    Refusal,
    Release,
    decode_record,
)
from relto.trust import Certificates
from steps import CIPHERTEXT, ITEM, KEY, NOW, consignment_hop, record_by, trust_of
from world import World, in_world, keys_of, person

YESTERDAY = "2015-01-04T00:00:00Z"
Lie = Callable[[Hop], Hop]
MANIFEST, PRIOR, RELEASE = 0, 1, 2
"""Where the records lie in what Washington sends to Tokyo; approvals follow."""


def put(hop: Hop, index: int, record: Envelope) -> Hop:
    """The hop message with one record in another's place."""
    return replace(hop, records=(*hop.records[:index], record, *hop.records[index + 1 :]))


def without(hop: Hop, index: int) -> Hop:
    return replace(hop, records=(*hop.records[:index], *hop.records[index + 1 :]))


def knowing(hop: Hop, *certificates: bytes) -> Hop:
    return replace(hop, certificates=Certificates.of(certificates).with_others(hop.certificates))


def approvals(hop: Hop) -> list[int]:
    kinds = enumerate(r.payload_type for r in hop.records)
    return [index for index, kind in kinds if kind == Approval.type()]


def mine(hop: Hop) -> int:
    """Where the approval of the hub's own officer lies."""
    parties = [(i, decode_record(hop.records[i], Approval).party) for i in approvals(hop)]
    return next(index for index, party in parties if party == "USA")


def released(hop: Hop, **changed: Any) -> Hop:
    """The hub's release with changes, signed by the hub."""
    release = replace(decode_record(hop.records[RELEASE], Release), **changed)
    return put(hop, RELEASE, record_by("USA", release))


def reapproved(hop: Hop, **changed: Any) -> Hop:
    """The hub's release and its officer's approval with the same changes, both signed anew."""
    index = mine(hop)
    approval = replace(decode_record(hop.records[index], Approval), **changed)
    signed = keys_of("USA").officers[approval.officer].sign(approval)
    return released(put(hop, index, signed), approvals=(signed.record_id,), **changed)


def relabelled(**changed: Any) -> Callable[[Hop], Manifest]:
    def change(hop: Hop) -> Manifest:
        manifest = decode_record(hop.records[MANIFEST], Manifest)
        return replace(manifest, label={**manifest.label, **changed})

    return change


def with_manifest(change: Callable[[Hop], Manifest]) -> Lie:
    """Another manifest under the old signatures, with everything of the hub's own made to fit."""

    def lie(hop: Hop) -> Hop:
        old = hop.records[MANIFEST]
        payload = change(hop).encode()
        new = Envelope(old.payload_type, payload, old.signatures)
        return moved(put(hop, MANIFEST, new), old.record_id, new.record_id)

    return lie


def moved(hop: Hop, old: str, new: str) -> Hop:
    """Keys, ciphertext and the hub's own release go over to another item id."""
    hop = replace(hop, keys={new: hop.keys[old]}, ciphertexts={new: hop.ciphertexts[old]})
    basis = decode_record(hop.records[RELEASE], Release).basis
    fitting = {new if source == old else source: c for source, c in basis.items()}
    return released(hop, item=new, basis=fitting)


def signed_anew(by: Callable[[], Any], change: Callable[[Hop], Manifest]) -> Lie:
    """The manifest changed, and signed by somebody else."""

    def lie(hop: Hop) -> Hop:
        old = hop.records[MANIFEST].record_id
        signed = by().sign(change(hop))
        new = put(knowing(hop, by().certificate), MANIFEST, signed)
        return moved(new, old, signed.record_id)

    return lie


def as_keyid_of_the_maker(hop: Hop) -> Hop:
    """The hub's signature, under the key id of the maker's officer."""
    old = hop.records[MANIFEST]
    foreign = keys_of("USA").officers["smith"].sign(decode_record(old, Manifest))
    signature = Signature(old.signatures[0].keyid, foreign.signatures[0].sig)
    return put(hop, MANIFEST, Envelope(old.payload_type, old.payload, (signature,)))


def flipped(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def each(values: Any, change: Callable[[bytes], bytes]) -> dict[str, bytes]:
    return {item: change(data) for item, data in values.items()}


def approved_twice(hop: Hop) -> Hop:
    """One officer with two records, at two instants, where the release needs two officers."""
    index = mine(hop)
    approval = decode_record(hop.records[index], Approval)
    others = [i for i in approvals(hop) if i != index and _party(hop, i) == "USA"]
    again = keys_of("USA").officers[approval.officer].sign(replace(approval, at=_later(approval)))
    for other in others[:1]:
        hop = put(hop, other, again)
    return released(hop, approvals=(hop.records[index].record_id, again.record_id))


def _party(hop: Hop, index: int) -> str:
    return decode_record(hop.records[index], Approval).party


def _later(approval: Approval) -> str:
    return approval.at[:-2] + ("9Z" if approval.at[-2] != "9" else "8Z")


def without_approvals(hop: Hop) -> Hop:
    kept = tuple(
        r for i, r in enumerate(hop.records) if i not in approvals(hop) or _party(hop, i) != "USA"
    )
    return released(replace(hop, records=kept), approvals=())


def lower_legs(hop: Hop) -> tuple[Leg, ...]:
    return tuple(
        replace(leg, mark="JPN:HI") for leg in decode_record(hop.records[RELEASE], Release).legs
    )


def _foreign_approval(hop: Hop) -> Hop:
    index = mine(hop)
    approval = decode_record(hop.records[index], Approval)
    kim = keys_of("KOR").officers["kim"]
    signed = kim.sign(replace(approval, party="KOR", officer="kim"))
    return released(
        put(knowing(hop, kim.certificate), index, signed),
        approvals=tuple(
            hop.records[i].record_id if i != index else signed.record_id
            for i in approvals(hop)
            if _party(hop, i) == "USA"
        ),
    )


def _approved_otherwise(hop: Hop, **changed: Any) -> Hop:
    """What the hub's officer signed is something else than what the hub releases."""
    index = mine(hop)
    approval = replace(decode_record(hop.records[index], Approval), **changed)
    signed = keys_of("USA").officers[approval.officer].sign(approval)
    old = hop.records[index].record_id
    named = decode_record(hop.records[RELEASE], Release).approvals
    fitting = tuple(signed.record_id if name == old else name for name in named)
    return released(put(hop, index, signed), approvals=fitting)


def _approved_by_the_node(hop: Hop) -> Hop:
    index = mine(hop)
    approval = decode_record(hop.records[index], Approval)
    return put(hop, index, record_by("USA", approval))


def _approved_in_anothers_name(hop: Hop) -> Hop:
    """Signed by one of the hub's officers, in the name of one whose hand it does not have."""
    index = mine(hop)
    approval = decode_record(hop.records[index], Approval)
    jones = keys_of("USA").officers["jones"]
    signed = jones.sign(replace(approval, officer="director"))
    others = [i for i in approvals(hop) if _party(hop, i) == "USA" and i != index]
    names = (signed.record_id, *(hop.records[i].record_id for i in others))
    return released(put(hop, index, signed), approvals=names)


def _prior(hop: Hop, **changed: Any) -> Hop:
    """The release that brought the item to the hub, changed, under the old signature."""
    old = hop.records[PRIOR]
    payload = replace(decode_record(old, Release), **changed).encode()
    new = Envelope(old.payload_type, payload, old.signatures)
    return released(put(hop, PRIOR, new), prior=(new.record_id,))


def _prior_by_the_hub(hop: Hop) -> Hop:
    """A release in the maker's name, signed by the hub."""
    old = decode_record(hop.records[PRIOR], Release)
    new = record_by("USA", replace(old, seq=old.seq + 1))
    return released(put(hop, PRIOR, new), prior=(new.record_id,))


def _prior_of_itself(hop: Hop) -> Hop:
    """A chain that begins with the hub."""
    own = replace(decode_record(hop.records[RELEASE], Release), prior=(), approvals=(), seq=5)
    first = record_by("USA", own)
    return released(put(hop, PRIOR, first), prior=(first.record_id,))


def _two_manifests(hop: Hop) -> Hop:
    return replace(hop, records=(*hop.records, hop.records[MANIFEST]))


def _another_record(record: Record) -> Lie:
    return lambda hop: replace(hop, records=(*hop.records, record_by("USA", record)))


LIES: dict[str, Lie] = {
    # the label, and so the id
    "the label names another reader": with_manifest(relabelled(releasable_to=["JPN"])),
    "the label names no reader": with_manifest(relabelled(releasable_to=[])),
    "a lower mark in the label": with_manifest(relabelled(mark="KOR:III")),
    "another subject": with_manifest(relabelled(about=["PRK", "USA"])),
    "another topic": with_manifest(relabelled(topics=["nuclear"])),
    "another kind": with_manifest(relabelled(kind="warning")),
    "the hub as originator": with_manifest(relabelled(originator="USA")),
    "the destination as originator": with_manifest(relabelled(originator="JPN")),
    "an exercise": with_manifest(relabelled(exercise=True)),
    "another instant": with_manifest(
        lambda hop: replace(decode_record(hop.records[MANIFEST], Manifest), at=YESTERDAY)
    ),
    "another commitment": with_manifest(
        lambda hop: replace(decode_record(hop.records[MANIFEST], Manifest), commitment="0" * 64)
    ),
    "the hub's node signs another label": signed_anew(
        lambda: keys_of("USA").node, relabelled(releasable_to=["JPN"])
    ),
    "the hub's officer signs another label": signed_anew(
        lambda: keys_of("USA").officers["smith"], relabelled(releasable_to=["JPN"])
    ),
    "an officer under a CA that only says it is the maker's": signed_anew(
        lambda: keys_of("KOR", generation=1).officers["kim"], relabelled(releasable_to=["JPN"])
    ),
    "the hub's signature under the maker's key id": as_keyid_of_the_maker,
    "no manifest": lambda hop: without(hop, MANIFEST),
    "two manifests": _two_manifests,
    # the content
    "another ciphertext": lambda hop: replace(hop, ciphertexts=each(hop.ciphertexts, flipped)),
    "a cut ciphertext": lambda hop: replace(
        hop, ciphertexts=each(hop.ciphertexts, lambda data: data[:-1])
    ),
    "a longer ciphertext": lambda hop: replace(
        hop, ciphertexts=each(hop.ciphertexts, lambda data: data + b"x")
    ),
    "an empty ciphertext": lambda hop: replace(
        hop, ciphertexts=each(hop.ciphertexts, lambda data: b"")
    ),
    "another key": lambda hop: replace(hop, keys=each(hop.keys, flipped)),
    "a short key": lambda hop: replace(hop, keys=each(hop.keys, lambda key: key[:31])),
    "no key": lambda hop: replace(hop, keys={}),
    "a sealed key of nothing": lambda hop: replace(
        hop, keys={}, sealed_keys={item: bytes(40) for item in hop.keys}
    ),
    "a key of another item beside it": lambda hop: replace(
        hop, keys={**hop.keys, "0" * 64: bytes(32)}
    ),
    "a ciphertext of another item": lambda hop: replace(
        hop, ciphertexts={"0" * 64: b"x"}
    ),
    # the path, recipient and marks
    "another recipient": lambda hop: released(hop, to="KOR", path=("USA", "KOR")),
    "a recipient whom its officer did not approve": lambda hop: put(
        hop, RELEASE, Envelope(
            Release.type(),
            replace(decode_record(hop.records[RELEASE], Release), to="KOR").encode(),
            hop.records[RELEASE].signatures,
        ),
    ),
    "a lower mark than its officer approved": lambda hop: released(hop, legs=lower_legs(hop)),
    "a lower mark with its officer's approval": lambda hop: reapproved(hop, legs=lower_legs(hop)),
    "another protecting agreement": lambda hop: reapproved(
        hop, legs=tuple(replace(leg, protected_by="tisa-2014")
                        for leg in decode_record(hop.records[RELEASE], Release).legs)
    ),
    "another article": lambda hop: reapproved(
        hop, basis=dict.fromkeys(
            decode_record(hop.records[RELEASE], Release).basis, "pair-jpn-usa/1"
        )
    ),
    "another version of the agreement": lambda hop: released(
        hop, agreements={"carried": "0" * 64}
    ),
    "no version of the agreement": lambda hop: released(hop, agreements={}),
    "the version of an agreement that is not cited": lambda hop: released(
        hop,
        agreements={
            **decode_record(hop.records[RELEASE], Release).agreements, "tisa-2014": "0" * 64,
        },
    ),
    "another sender": lambda hop: released(
        hop, sender="KOR", path=("KOR", "JPN"),
        legs=(Leg("KOR", "JPN", "JPN:GOKUHI", "gsomia-jpn-usa-2007"),),
    ),
    "a release unsigned by the hub": lambda hop: put(
        hop, RELEASE, keys_of("USA").officers["smith"].sign(
            decode_record(hop.records[RELEASE], Release)
        ),
    ),
    # approvals
    "no approval": without_approvals,
    "an approval too few": lambda hop: released(
        without(hop, mine(hop)),
        approvals=tuple(
            hop.records[i].record_id
            for i in approvals(hop) if _party(hop, i) == "USA" and i != mine(hop)
        ),
    ),
    "an approval that is named and not enclosed": lambda hop: without(hop, mine(hop)),
    "an approval that is enclosed and not named": lambda hop: released(hop, approvals=()),
    "another party's officer approves for the hub": _foreign_approval,
    "the node approves in its officer's place": _approved_by_the_node,
    "an officer approves in another's name": _approved_in_anothers_name,
    "one officer approves twice": approved_twice,
    "its officer approved another article": lambda hop: _approved_otherwise(
        hop, basis=dict.fromkeys(
            decode_record(hop.records[RELEASE], Release).basis, "pair-jpn-usa/1"
        )
    ),
    "its officer approved another mark": lambda hop: _approved_otherwise(
        hop, legs=lower_legs(hop)
    ),
    "its officer approved another recipient": lambda hop: _approved_otherwise(hop, to="KOR"),
    "its officer approved another item": lambda hop: _approved_otherwise(hop, item=ITEM),
    "an approval of another instant than was signed": lambda hop: put(
        hop, mine(hop), Envelope(
            Approval.type(),
            replace(
                decode_record(hop.records[mine(hop)], Approval), at=YESTERDAY
            ).encode(),
            hop.records[mine(hop)].signatures,
        ),
    ),
    # where it came from
    "no prior release": lambda hop: without(released(hop, prior=()), PRIOR),
    "a prior release that is named and not enclosed": lambda hop: without(hop, PRIOR),
    "a prior release that is enclosed and not named": lambda hop: released(hop, prior=()),
    "the prior release to another": lambda hop: _prior(hop, to="USA", path=("KOR", "USA")),
    "a prior release with another mark": lambda hop: _prior(
        hop, legs=tuple(
            replace(leg, mark="USA:C") if leg.receiver == "USA" else leg
            for leg in decode_record(hop.records[PRIOR], Release).legs
        )
    ),
    "a prior release of the maker, signed by the hub": _prior_by_the_hub,
    "a chain that begins with the hub": _prior_of_itself,
    # certificates
    "no certificates": lambda hop: replace(hop, certificates=Certificates()),
    "only the hub's certificates": lambda hop: replace(
        hop, certificates=Certificates.of(
            [keys_of("USA").node.certificate, keys_of("USA").officers["smith"].certificate]
        )
    ),
    "a certificate that the hub's CA gave for the maker's key": lambda hop: replace(
        hop, certificates=Certificates({
            keyid: keys_of("USA").officers["smith"].certificate
            if keyid in {s.keyid for s in hop.records[MANIFEST].signatures} else certificate
            for keyid, certificate in hop.certificates.by_keyid.items()
        })
    ),
    # what does not belong
    "a receipt in the same message": _another_record(Receipt(ITEM, "USA", ("0" * 64,), NOW)),
    "a refusal in the same message": _another_record(
        Refusal(ITEM, "USA", ("0" * 64,), ("recalled",), NOW)
    ),
    "a hold in the same message": _another_record(Hold("USA", "JPN", True, 1, NOW)),
    "a node key in the same message": _another_record(NodeKey("USA", "00", 1, NOW, NOW)),
    "no release": lambda hop: replace(hop, records=hop.records[:1]),
}  # fmt: skip


@pytest.mark.parametrize("case", LIES)
def test_a_hub_that_lies_is_caught(case: str) -> None:
    """At the destination nothing is kept that can be read; the honest message is still welcome."""

    async def test(world: World) -> None:
        item = await world.share("KOR", "KOR:II", "JPN", topics=("reviewed",))
        await world.approve("KOR", item, "JPN")
        await world.settle()
        await world.approve("USA", item, "JPN")
        tokyo = world["JPN"]
        before = tokyo.store.state
        lied = []

        def lie(hop: Hop) -> Hop | None:
            if Manifest.type() not in {r.payload_type for r in hop.records}:
                return None
            changed = LIES[case](hop)
            assert changed != hop
            lied.append(changed)
            return changed

        world.alter["USA", "JPN"] = lie
        await world.carry("USA", "JPN")
        assert lied
        for there in tokyo.items():  # what was refused for a reason of the decision, signed
            assert (there.state, there.key, there.stored, there.basis) == ("refused", None, "", {})
        assert tokyo.journal("held") == []
        if tokyo.store.state.documents == before.documents:
            assert tokyo.store.state == before
        assert world["KOR"].outgoing(item, "JPN").state == "with-hub"
        world.alter.clear()
        if world["USA"].outgoing(item, "JPN").is_open:
            await world.settle()
            assert not [i for i in tokyo.items() if i.id != item and i.key is not None]

    with World("carried") as world:
        world.run(test(world))


# The verification itself


def test_what_seoul_sends_is_verified_whole() -> None:
    found = verify_consignment(consignment_hop(), trust_of("USA"))
    assert (found.item, found.key, found.ciphertext) == (ITEM, KEY, CIPHERTEXT)
    assert found.officers == {"kim"}
    assert found.manifest_roles == {"officer"}
    assert found.prior == ()
    assert found.sealed_key is None


def test_only_certificates_that_signatures_need_are_kept() -> None:
    hop = knowing(consignment_hop(), keys_of("JPN").node.certificate, keys_of("KOR").tls)
    found = verify_consignment(hop, trust_of("USA"))
    needed = {s.keyid for r in hop.records for s in r.signatures}
    assert found.certificates.by_keyid.keys() == needed


def test_one_person_with_two_certificates_is_one_officer() -> None:
    hop = consignment_hop()
    keys = keys_of("KOR")
    second = person(keys.ca, keys.ca_key, "officer", "kim", words="second")
    approval = replace(decode_record(hop.records[2], Approval), at="2015-01-04T23:59:59Z")
    again = second.sign(approval)
    release = decode_record(hop.records[1], Release)
    named = (*release.approvals, again.record_id)
    hop = put(hop, 1, record_by("KOR", replace(release, approvals=named)))
    hop = knowing(replace(hop, records=(*hop.records, again)), second.certificate)
    assert verify_consignment(hop, trust_of("USA")).officers == {"kim"}


def test_a_certificate_must_cover_the_instant_of_the_record() -> None:
    hop = consignment_hop()
    release = decode_record(hop.records[1], Release)
    for at, is_good in (
        ("2014-01-01T00:00:00Z", True), ("2013-12-31T23:59:59Z", False),
        ("2036-01-01T00:00:00Z", True), ("2036-01-01T00:00:01Z", False),
    ):  # fmt: skip
        changed = put(hop, 1, record_by("KOR", replace(release, at=at)))
        if is_good:
            verify_consignment(changed, trust_of("USA"))
        else:
            with pytest.raises(PeerError):
                verify_consignment(changed, trust_of("USA"))


@in_world("carried")
async def test_a_hub_that_does_not_read_gets_no_key_for_itself(world: World) -> None:
    """A sender that gives a blind hub the key is refused: the hub must not come to have it."""
    item = await world.share("KOR", "KOR:III", "JPN", topics=("blind",))
    await world.approve("KOR", item, "JPN")
    world.alter["KOR", "USA"] = lambda hop: replace(hop, keys={item: bytes(32)})
    before = world["USA"].store.state
    await world.carry("KOR", "USA")
    assert world["USA"].store.state == before
    world.alter["KOR", "USA"] = lambda hop: replace(hop, sealed_keys={})
    await world.carry("KOR", "USA")
    assert world["USA"].store.state == before
    world.alter.clear()
    await world.settle()
    assert world["KOR"].outgoing(item, "JPN").state == "delivered"


@in_world("carried")
async def test_a_blind_hub_that_changes_the_sealed_key_is_caught(world: World) -> None:
    item = await world.share("KOR", "KOR:III", "JPN", topics=("blind",))
    await world.approve("KOR", item, "JPN")
    await world.carry("KOR", "USA")
    before = world["JPN"].store.state
    changes: list[Callable[[bytes], bytes]] = [
        lambda key: key[:-1] + bytes([key[-1] ^ 1]),
        lambda key: key[:32],
        lambda key: b"",
    ]
    for change in changes:
        world.alter["USA", "JPN"] = partial(_with_sealed_keys, change)
        await world.carry("USA", "JPN")
        assert world["JPN"].store.state == before
    world.alter.clear()
    await world.settle()
    assert world["KOR"].outgoing(item, "JPN").state == "delivered"


def _with_sealed_keys(change: Callable[[bytes], bytes], hop: Hop) -> Hop:
    return replace(hop, sealed_keys=each(hop.sealed_keys, change))


@in_world()
async def test_what_was_given_under_another_agreement_does_not_go_on_under_this_one(
    world: World,
) -> None:
    """Tokyo does not know the agreement of 1987, but sees that nothing else brought the item."""
    item = await world.share("KOR", "KOR:III", "USA")
    other = await world.share("KOR", "KOR:III", "JPN", body=b"another")
    for each_, to in ((item, "USA"), (other, "JPN")):
        await world.approve("KOR", each_, to)
    await world.settle()
    await world.approve("USA", other, "JPN")
    hub = world["USA"].item(item)
    good = world["USA"].outgoing(other, "JPN")
    assert good.release is not None
    smith = keys_of("USA").officers["smith"]
    approval = replace(
        decode_record(good.approvals[0], Approval),
        officer="smith", item=item, basis={item: "tisa-2014/4"},
    )  # fmt: skip
    approved = smith.sign(approval)
    [prior] = hub.incoming
    release = replace(
        decode_record(good.release, Release), item=item, basis={item: "tisa-2014/4"},
        approvals=(approved.record_id,), prior=(prior.id,),
    )  # fmt: skip
    records = (
        hub.manifest_envelope, prior.release, record_by("USA", release), *prior.approvals, approved,
    )  # fmt: skip
    key = world["USA"].node.payload_key(hub)
    assert key is not None
    hop = Hop(
        records,
        hub.certificates,
        {item: key},
        {},
        {item: b"".join(world["USA"].node.contents.ciphertext(hub))},
    )
    hop = knowing(hop, smith.certificate, keys_of("USA").node.certificate)
    assert await world.post("USA", "JPN", hop) == 200
    there = world["JPN"].item(item)
    assert (there.state, there.key) == ("refused", None)
    assert there.incoming[0].result is not None
    said = decode_record(there.incoming[0].result, Refusal)
    assert said.codes == ("third-party-rule",)
