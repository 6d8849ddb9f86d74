"""What arrives: a release that a peer sends is decided again, kept, receipted and passed on.

Pure functions of the item and the facts of a `View`; `relto.exchange.step` is what calls them.
"""

from dataclasses import replace

from relto.clauses import Citation
from relto.consignments import Consignment
from relto.decisions import Allow, Deny
from relto.errors import PeerError, QuestionError
from relto.events import Arrive, Complete, Effects, NotYet, Refused, Send, View
from relto.items import Incoming, Item
from relto.labels import Label, decode_holding
from relto.questions import Question
from relto.readers import Readers
from relto.records import Receipt, Refusal, Release
from relto.releasing import (
    add_outgoing,
    chain_of,
    entry_of,
    pass_back,
    refuse_upstream,
    require_item,
    sign_record,
    with_incoming,
)
from relto.trust import Certificates

__all__ = ["arrive", "complete", "pass_on", "stamped"]

INCOMING_MAX = 256  # releases that bring one item to one node


def arrive(view: View, event: Arrive, now: str) -> Effects:
    """A release that a peer sent: held, refused with a signed reason, or waited for.

    Raises PeerError where it is not for us, or is no release at all, and NotYet.
    """
    consignment = event.consignment
    release = consignment.release
    # (1) It is for us, from the node that sent it.
    if release.next != view.party or release.sender != event.sender:
        raise PeerError("wrongly routed: the release names another sender or next party")
    # (2) A repeat changes nothing and gets the same answer.
    release_id = consignment.release_envelope.record_id
    known = None if view.item is None else view.item.incoming_by(release_id)
    if known is not None:
        return _repeat(view, event, known)
    if release.at > now or consignment.manifest.at > now:
        raise NotYet(f"made at {release.at}, which is ahead of our clock")
    item = view.item or Item(
        consignment.item,
        consignment.manifest_envelope.payload,
        consignment.manifest_envelope.signatures,
        release.precedence,
        now,
        made_here=False,
    )
    if len(item.incoming) >= INCOMING_MAX:
        raise PeerError(f"the item was released to us {INCOMING_MAX} times already")
    item = item.with_manifest_signatures(consignment.manifest_envelope.signatures)
    item = replace(
        item,
        certificates=item.certificates.with_others(consignment.certificates).with_others(
            Certificates.of([view.certificate])
        ),
    )
    # (3) We decide again, by what we know ourselves.
    try:
        label = item.label(view.engine.regime)
    except QuestionError as e:
        raise PeerError(f"the manifest's label is malformed: {e}") from e
    codes = _check_again(view, consignment, label, now)
    incoming = Incoming(
        consignment.release_envelope,
        "refused" if codes else "receiving",
        now,
        consignment.prior_envelopes,
        consignment.approval_envelopes,
    )
    if codes:
        refusal = sign_record(view, Refusal(item.id, view.party, chain_of(incoming), codes, now))
        item = with_incoming(item, replace(incoming, result=refusal))
        entry = entry_of("refuse", item.id, release=incoming.id, codes=list(codes))
        return Effects(item, (entry,), (Send(event.sender, release.precedence, result=refusal),))
    # (4) It is kept: the key for a reader, the key sealed past us at a hub that does not read.
    item = replace(
        item,
        key=item.key or event.key,
        sealed_keys={**item.sealed_keys, **_sealed_key(consignment)},
    )
    item = with_incoming(item, incoming)
    entry = entry_of(
        "accept", item.id, release=incoming.id, sender=event.sender,
        cites=sorted(set(release.basis.values())), regime=view.engine.regime.digest,
    )  # fmt: skip
    effects = Effects(item, (entry,))
    if not event.stored:
        return effects
    if not item.stored:
        item = replace(item, stored=event.stored)
    return _hold_it(view, replace(effects, item=item), incoming, label, now)


def _sealed_key(consignment: Consignment) -> dict[str, bytes]:
    if consignment.sealed_key is None:
        return {}
    return {consignment.release.to: consignment.sealed_key}


def _repeat(view: View, event: Arrive, known: Incoming) -> Effects:
    """Answer a repeated release as before; take a key that was sealed anew past us."""
    item = require_item(view)
    item = replace(item, sealed_keys={**item.sealed_keys, **_sealed_key(event.consignment)})
    results = tuple(e for e in (known.result, *known.later) if e is not None)
    precedence = known.record.precedence
    send = tuple(Send(event.sender, precedence, result=result) for result in results)
    return Effects(item, (), send)


def _check_again(view: View, consignment: Consignment, label: Label, now: str) -> tuple[str, ...]:
    """Why this node refuses a release by its own decision; empty if it does not."""
    release = consignment.release
    if consignment.manifest.ciphertext_bytes > view.ciphertext_bytes_max:
        return ("too-large",)
    if release.basis.keys() != {source.item for source in label.sources}:
        return ("malformed",)
    if release.agreements.keys() != {Citation.parse(c).agreement for c in release.basis.values()}:
        return ("malformed",)  # or who leaves a digest out would not be compared
    engine = view.engine
    agreements = engine.regime.agreements
    unknown = [c for c in release.basis.values() if engine.regime.clause(c) is None]
    if any(view.party in _parties_of(view, citation) for citation in unknown):
        return ("no-agreement",)  # we are a party, and there is no such article
    if unknown:
        return _check_unknown(view, release, label, now)
    holding = consignment.holding_of_sender(
        label, lambda citation: engine.regime.clause(citation) is not None
    )
    question = Question(
        now,
        release.sender,
        release.to,
        label,
        decode_holding(holding, engine.regime, label, release.sender),
    )
    decision = engine.decide_stated(question, release.path, release.basis)
    if isinstance(decision, Deny):
        return decision.codes
    if decision.legs != release.legs:
        return ("marks-differ",)
    if any(
        digest != view.digests[a] for a, digest in release.agreements.items() if a in agreements
    ):
        return ("agreement-differs",)
    return _lacks_approval(consignment, decision, label)


def _parties_of(view: View, citation: str) -> frozenset[str]:
    agreement = view.engine.regime.agreements.get(Citation.parse(citation).agreement)
    return frozenset() if agreement is None else agreement.parties


def _check_unknown(view: View, release: Release, label: Label, now: str) -> tuple[str, ...]:
    """A release by an agreement that we are not in: its signed word counts (DESIGN §6), but for
    what we know ourselves: that passing on is direct, that the leg to us is protected by an
    agreement of both ends in force here, and that the label names us as a reader.
    """
    leg = release.legs[0]
    guard = view.engine.regime.agreements.get(leg.protected_by)
    if release.to != view.party or guard is None or not {*release.path} <= guard.parties:
        return ("no-agreement",)
    if not view.engine.in_force(guard.id, now):
        return ("not-in-force",)
    ours = view.engine.regime.marks.get(leg.mark)
    if ours is None or ours.party != view.party:
        return ("marks-differ",)
    if not Readers(Question(now, release.sender, release.to, label), {}).reads(view.party):
        return ("not-releasable",)
    return ()


def _lacks_approval(consignment: Consignment, decision: Allow, label: Label) -> tuple[str, ...]:
    """The sender's officers as the decision asks for, and a maker's officer on the manifest."""
    sender = consignment.release.sender
    needed = next((r.officers for r in decision.review if r.party == sender), 0)
    if len(consignment.officers) < needed:
        return ("approval-missing",)
    if needed and sender == label.maker and "officer" not in consignment.manifest_roles:
        return ("approval-missing",)
    return ()


def _hold_it(view: View, effects: Effects, incoming: Incoming, label: Label, now: str) -> Effects:
    """The item is here, whole and durable with this commit: stamp, receipt, and pass on."""
    item = effects.item
    assert item is not None  # noqa: S101  # every caller has one
    release = incoming.record
    receipt_record = Receipt(item.id, view.party, chain_of(incoming), now)
    receipt_envelope = sign_record(view, receipt_record)
    item = stamped(view, item, release, label)
    item = with_incoming(item, replace(incoming, state="held", since=now, result=receipt_envelope))
    entry = entry_of(
        "held", item.id, release=incoming.id, mark=item.held_as,
        receipt=receipt_envelope.record_id,
    )  # fmt: skip
    effects = replace(
        effects,
        item=item,
        journal=(*effects.journal, entry),
        send=(*effects.send, Send(release.sender, release.precedence, result=receipt_envelope)),
    )
    return pass_on(view, effects, incoming, label, now)


def stamped(view: View, item: Item, release: Release, label: Label) -> Item:
    """The item once `release` has brought it: with what it is held on, and our mark."""
    basis = {source: list(entries) for source, entries in item.basis.items()}
    for source in label.sources:
        if source.originator == view.party:
            continue
        if view.engine.regime.clause(release.basis[source.item]) is None:
            continue  # an agreement that we are not in permits us nothing further
        receipt = Citation.parse(release.basis[source.item]).as_basis()
        entries = basis.setdefault(source.item, [])
        if receipt not in entries:
            entries.append(receipt)
    return replace(
        item,
        basis=basis,
        held_as=item.held_as or (None if label.maker == view.party else release.legs[0].mark),
    )


def pass_on(view: View, effects: Effects, incoming: Incoming, label: Label, now: str) -> Effects:
    """What a hub does about the next leg of a release that is held here."""
    item, release = effects.item, incoming.record
    assert item is not None  # noqa: S101  # it is held
    if release.to == view.party:
        return effects
    known = next((o for o in item.outgoing if o.answers == incoming.id), None)
    if known is not None:  # our store was behind: this was decided before
        return pass_back(effects, known)
    try:
        return add_outgoing(
            view, effects, label, release.to, release.precedence, now,
            answers=incoming.id,
        )  # fmt: skip
    except Refused as e:
        codes = tuple(dict.fromkeys(c for denied in e.refusals for c in denied.codes))
        return refuse_upstream(view, effects, incoming.id, codes, now)


def complete(view: View, event: Complete, now: str) -> Effects:
    """The last bytes of a large ciphertext are here: the item is held."""
    item = require_item(view)
    incoming = item.incoming_by(event.release)
    if incoming is None or incoming.state != "receiving":
        return Effects(item)
    item = replace(item, stored=item.stored or event.release)
    label = item.label(view.engine.regime)
    return _hold_it(view, Effects(item), incoming, label, now)
