"""The exchange: what one event does to one item at one node, as a pure function (DESIGN §6).

`step(view, event, now) -> Effects`. The view is the item and the facts that it needs; the
effects are the item as it becomes, entries for the journal, and messages for the outbox, which
the node writes in one transaction. No other code changes an item. Signatures of records from
others were verified before they became events (`relto.consignments`).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from relto.decisions import Deny
from relto.envelope import Envelope
from relto.errors import CallerError, PeerError
from relto.events import (
    Approve,
    Arrive,
    Complete,
    Decline,
    Denied,
    Dispatch,
    Draft,
    Effects,
    Event,
    NotYet,
    Offer,
    Refused,
    Result,
    Taken,
    View,
)
from relto.items import Item, Outgoing, Proposal
from relto.receiving import arrive, complete
from relto.records import Approval, Receipt, decode_record
from relto.releasing import (
    add_outgoing,
    decide_again,
    entry_of,
    pass_back,
    propose,
    refuse_upstream,
    require_item,
    sign_release,
    with_outgoing,
)
from relto.trust import Certificates, Verified

__all__ = ["step"]


def step(view: View, event: Event, now: str) -> Effects:
    """What `event` does to the item of `view` at the instant `now`.

    Raises:
        CallerError: one of our own asked for what cannot be; nothing changes.
        PeerError: the other side broke the protocol; nothing changes.
    """
    return _HANDLERS[type(event)](view, event, now)


# What our own people do


def _draft(view: View, event: Draft, now: str) -> Effects:
    if view.item is not None:
        raise CallerError("this very item exists already; share another, or offer it to others")
    item = Item(
        event.item,
        event.manifest,
        (),
        event.precedence,
        now,
        made_here=True,
        key=event.key,
        stored=event.stored,
        basis=event.basis,
    )
    label = item.label(view.engine.regime)
    effects = Effects(item, (entry_of("draft", item.id, by=event.by),))
    refused: list[Denied] = []
    for to in event.to:  # all of them are told at once, and nothing is half done
        try:
            propose(view, label, item, to, now)
        except Refused as e:
            refused += e.refusals
    if refused:
        raise Refused(tuple(refused))
    for to in event.to:
        effects = add_outgoing(view, effects, label, to, event.precedence, now)
    return effects


def _offer(view: View, event: Offer, now: str) -> Effects:
    item = require_item(view)
    entry = entry_of("offer", item.id, to=event.to, by=event.by)
    label = item.label(view.engine.regime)
    if item.state in ("receiving", "refused"):
        raise CallerError("this item is not held here, so it cannot be passed on")
    return add_outgoing(
        view, Effects(item, (entry,)), label, event.to, event.precedence, now,
    )  # fmt: skip


def _in_review(item: Item, to: str) -> int:
    for index, outgoing in enumerate(item.outgoing):
        if outgoing.proposal.to == to and outgoing.state == "review":
            return index
    raise CallerError(f"nothing to {to} waits for review in this item; see relto review list")


def _approve(view: View, event: Approve, now: str) -> Effects:
    item = require_item(view)
    approval = decode_record(event.approval, Approval)
    index = _in_review(item, approval.to)
    outgoing = item.outgoing[index]
    # (1) What was signed is what waits: recipient, path, marks and citations.
    if approval.officer != event.officer.name:
        raise CallerError(f"the approval names {approval.officer}, {event.officer.name} signed it")
    if not approval.is_for(view.party, item.id, outgoing.proposal):
        raise CallerError(
            "the approval is for another path, mark or citation; show and approve anew"
        )
    if not outgoing.since <= approval.at <= now:
        raise CallerError("the approval was not signed in this review; show and approve anew")
    # (2) The decision still says so; if it says something else, it is reviewed anew.
    label = item.label(view.engine.regime)
    proposal = propose(view, label, item, approval.to, now)
    if proposal != outgoing.proposal:
        changed = replace(outgoing, proposal=proposal, approvals=(), since=now)
        return Effects(
            with_outgoing(item, index, changed),
            (entry_of("review-again", item.id, to=approval.to),),
        )
    # (3) Each officer counts once: one person with two keys is one officer.
    if event.officer.name in {decode_record(a, Approval).officer for a in outgoing.approvals}:
        raise CallerError(f"{event.officer.name} approved this already; another officer must")
    # (4) The originator's officer signs the manifest as well.
    if item.made_here and event.manifest is not None:
        item = _sign_manifest(item, event.manifest, event.officer)
    elif item.made_here and not _has_signed(item, (*outgoing.approvals, event.approval)):
        raise CallerError("the officer who approves our own item signs its manifest too")
    outgoing = replace(outgoing, approvals=(*outgoing.approvals, event.approval))
    item = replace(
        with_outgoing(item, index, outgoing),
        certificates=item.certificates.with_others(Certificates.of([event.certificate])),
    )
    entry = entry_of(
        "approve", item.id, to=approval.to, by=event.officer.name, approval=event.approval.record_id
    )
    effects = Effects(item, (entry,))
    if len(outgoing.approvals) < proposal.officers:
        return effects
    return sign_release(view, effects, index, now)


def _sign_manifest(item: Item, manifest: Envelope, officer: Verified) -> Item:
    if manifest.payload != item.manifest_payload:
        raise CallerError("the manifest signed is another item's; show and approve anew")
    signature = next(s for s in manifest.signatures if s.keyid == officer.keyid)
    return item.with_manifest_signatures([signature])


def _has_signed(item: Item, approvals: tuple[Envelope, ...]) -> bool:
    """Whether one of those who approve signed the manifest as well: in this review, no other."""
    signed = {s.keyid for s in item.manifest_signatures}
    return any(s.keyid in signed for approval in approvals for s in approval.signatures)


def _decline(view: View, event: Decline, now: str) -> Effects:
    item = require_item(view)
    index = _in_review(item, event.to)
    outgoing = replace(
        item.outgoing[index], state="declined", since=now, codes=("refused-by-officer",)
    )
    item = with_outgoing(item, index, outgoing)
    effects = Effects(item, (entry_of("decline", item.id, to=event.to, by=event.by),))
    if outgoing.answers is None:
        return effects
    return refuse_upstream(view, effects, outgoing.answers, ("refused-by-officer",), now)


# What comes back, and what the courier does with what is owed


def _result(view: View, event: Result, now: str) -> Effects:
    item = view.item
    record = event.record
    if item is None:
        raise PeerError("a result for nothing that is on its way from here")
    index = next(
        (
            i
            for i, o in enumerate(item.outgoing)
            if o.release is not None and o.release.record_id in record.releases
        ),
        None,
    )
    if index is None:
        raise PeerError("a result for nothing that is on its way from here")
    outgoing = item.outgoing[index]
    path = outgoing.proposal.path
    # (1) It came back along the path, from a party behind us on it.
    if event.sender != path[1] or record.party not in path[1:]:
        raise PeerError("a result from a party that is not on the path")
    if event.envelope.record_id in {r.record_id for r in outgoing.results}:
        return Effects(item)
    # (2) Only the destination's own receipt lets us forget; a hub's closes its leg alone.
    is_receipt = isinstance(record, Receipt)
    is_hubs = is_receipt and record.party != outgoing.proposal.to
    # A hub's receipt may be overtaken by what settles the release: its message was lost before.
    is_late = is_hubs and not outgoing.is_open
    if not (outgoing.is_open or is_late) or (
        is_receipt and _has_receipt_of(outgoing, record.party)
    ):
        raise PeerError("a second, different result for what is settled")
    if record.at > now:
        raise NotYet(f"made at {record.at}, which is ahead of our clock")
    forget: tuple[int, ...] = ()
    if is_hubs:
        state = "with-hub"
    else:
        state = "delivered" if is_receipt else "refused"
        forget = () if outgoing.outbox is None else (outgoing.outbox,)
    codes = () if isinstance(record, Receipt) else record.codes
    outgoing = replace(
        outgoing,
        state=outgoing.state if is_late else state,
        since=outgoing.since if is_late else now,
        codes=outgoing.codes if is_late else codes,
        results=(*outgoing.results, event.envelope),
        outbox=None if forget else outgoing.outbox,
    )
    item = with_outgoing(item, index, outgoing)
    item = replace(item, certificates=item.certificates.with_others(event.certificates))
    entry = entry_of(
        state, item.id, release=record.releases[-1], party=record.party,
        record=event.envelope.record_id, codes=list(codes) or None,
    )  # fmt: skip
    effects = Effects(item, (entry,), forget=forget)
    # (3) A hub passes it back, verbatim.
    return pass_back(effects, outgoing)


def _has_receipt_of(outgoing: Outgoing, party: str) -> bool:
    receipts = [r for r in outgoing.results if r.payload_type == Receipt.type()]
    return any(decode_record(r, Receipt).party == party for r in receipts)


def _released(item: Item, release: str) -> tuple[int, Outgoing]:
    """The outgoing with that release, and where it stands. Raises CallerError."""
    outgoing = item.outgoing_by(release)
    if outgoing is None:
        raise CallerError("no such release of this item")
    return item.outgoing.index(outgoing), outgoing


def _dispatch(view: View, event: Dispatch, now: str) -> Effects:
    """Decide once more, before bytes may leave; the item says ready, or blocked with its codes."""
    item = require_item(view)
    index, outgoing = _released(item, event.release)
    if not outgoing.is_open:
        raise CallerError("this release is settled; nothing is owed any more")
    proposal = outgoing.proposal
    label = item.label(view.engine.regime)
    decision = decide_again(view, item, proposal, now)
    codes: tuple[str, ...] = ("marks-differ",)
    state = "blocked"
    if isinstance(decision, Deny):
        codes = decision.codes
    elif len(outgoing.approvals) < Proposal.of(decision, label, view.party).officers:
        codes = ("approval-missing",)  # the regime asks for more officers than it did
    elif decision.legs == proposal.legs:
        state, codes = ("ready" if outgoing.state == "blocked" else outgoing.state), ()
    if set(proposal.path[1:]) & view.held_to:
        state, codes = "blocked", ("on-hold",)
    changed = replace(outgoing, state=state, codes=codes)
    if (state, codes) != (outgoing.state, outgoing.codes):
        changed = replace(changed, since=now)
    event_name = "blocked" if state == "blocked" else "dispatch"
    entry = entry_of(
        event_name, item.id, release=event.release, to=proposal.to, codes=list(codes) or None
    )
    return Effects(with_outgoing(item, index, changed), (entry,))


def _taken(view: View, event: Taken, now: str) -> Effects:
    item = require_item(view)
    index, outgoing = _released(item, event.release)
    if outgoing.outbox is None:
        return Effects(item)  # its result was faster
    if event.have_bytes < item.manifest.ciphertext_bytes:
        changed = replace(outgoing, received_bytes=event.have_bytes)
    elif outgoing.state == "ready":
        changed = replace(outgoing, received_bytes=0, state="sent", since=now)
    else:
        changed = replace(outgoing, received_bytes=0)
    return Effects(with_outgoing(item, index, changed))


_HANDLERS: dict[type, Callable[[View, Any, str], Effects]] = {
    Draft: _draft,
    Offer: _offer,
    Approve: _approve,
    Decline: _decline,
    Arrive: arrive,
    Complete: complete,
    Result: _result,
    Dispatch: _dispatch,
    Taken: _taken,
}
