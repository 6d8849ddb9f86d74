"""Planted bugs: small changes of production code, as a careless hand makes them, each under a name.

None is looked for by a test of its own: schedules find them, by the rules alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from exchange_bugs import BUGS as EXCHANGE_BUGS
from exchange_bugs import saying
from relto import (
    calls,
    consignments,
    contents,
    courier,
    exchange,
    items,
    node,
    payloads,
    peering,
    receiving,
    trust,
)
from relto.stores import writer
from sim import disk
from sim.play import play

__all__ = ["BUGS", "SCHEDULES_MAX", "Search", "search"]

SCHEDULES_MAX = 500

_BY_SCHEDULES = (
    "an item is forgotten on the hub's 2xx",
    "an item is forgotten on the hub's receipt",
    "the hub may sign the destination's receipt",
    "an approval of another path counts",
    "an approval of another mark counts",
    "an approval of an earlier review counts",
    "what came under another agreement goes on under this one",
    "who leaves a digest out is not compared",
    "two lanes carry one row",
    "the same officer counts twice",
    "two approvals of one officer count twice on arrival",
    "the receiver trusts the sender's decision",
    "nothing is decided again at dispatch",
    "a hold is ignored at dispatch",
    "a hold looks at the last party alone",
    "the receipt goes before the content is here",
    "the receipt goes before the content is on the disk",
    "an item is accepted before its content is on the disk",
    "a repeat is applied again",
    "the manifest's signature is not checked",
    "an approval's signature is not checked",
    "an approval of the hub need not fit its release",
    "the key is not checked against the commitment",
    "the ciphertext is not checked against the manifest",
    "a refusal is not journaled",
    "a release is not journaled",
    "a refusal of what arrives is not journaled",
    "a release ahead of our clock is taken at once",
    "the key goes to a hub that must not read",
    "a message that got no answer is forgotten",
    "what changed while it waited is released unreviewed",
    "a result is taken from anybody on the path",
)

_OWN: dict[str, tuple[Any, str, str]] = {
    "commits are not synced": (
        disk.Disk.after_crash,
        "after._state = self.durable_state",
        "after._state = self.previous_state",
    ),
    "the process goes on after the disk has failed": (
        writer.Writer._commit,
        "self._on_broken(e)",
        "self._broken = False",
    ),
    "bytes leave though the lease ran out": (
        calls.Calls._ask,
        "if wait_ms <= 0:",
        "if False:",
    ),
    "what is blocked leaves": (
        courier.Courier._dispatch,
        'if outgoing.state == "blocked":',
        "if False:",
    ),
    "a row is taken without a lease": (
        courier.Courier._lease,
        "return until_ms if tx.outbox_lease(row.number, until_ms) else None",
        "return until_ms",
    ),
    "a result is forgotten when the peer says later": (
        courier.Courier._answered,
        'if said.word not in ("accepted", "refused"):',
        "if False:",
    ),
    "a message that is put off is forgotten": (
        courier.Courier._put_off,
        "tx.outbox_reschedule(row.number, due_ms",
        "tx.outbox_remove(row.number) or tx.outbox_reschedule(row.number, due_ms",
    ),
    "times of another boot are believed": (
        courier.Courier._forget_leases,
        "tx.outbox_reschedule(row.number, due_ms=0, attempts=row.attempts, error=row.error)",
        "pass",
    ),
    "who has a new key is sealed to under the old": (
        calls.Calls.post,
        "for fresh in (False, True):",
        "for fresh in (False,):",
    ),
    "a hub's refusal is not told upstream": (
        exchange._decline,
        "if outgoing.answers is None:",
        "if True:",
    ),
    "a repeat is not answered": (
        receiving._repeat,
        "return Effects(item, (), send)",
        "return Effects(item, (), ())",
    ),
    "one result is owed twice": (
        node.Node._enqueue,
        'if tx.get("owed", _owed(send.peer, send.result)) is not None:',
        "if False:",
    ),
    "a result that reached its peer counts as owed": (
        node.Node.settle,
        'tx.delete("owed", _owed(peer, result))',
        "pass",
    ),
    "holds are not found": (node.Node.held_to, 'state="on"', 'state="of"'),
    "the reserve of the disk is never taken again": (
        node.Node.find_room,
        "if not self.store.ballast_held:",
        "if False:",
    ),
    "contents that rows refer to are swept": (
        contents.Contents.sweep,
        'if reader.get("blob", name) is None and',
        "if",
    ),
    "a release goes to another than it names": (
        receiving.arrive,
        "if release.next != view.party or release.sender != event.sender:",
        "if False:",
    ),
    "another edition of an agreement is taken": (
        receiving._check_again,
        "digest != view.digests[a]",
        "False",
    ),
    "marks on the legs are not compared": (
        receiving._check_again,
        "if decision.legs != release.legs:",
        "if False:",
    ),
    "approvals are not counted on arrival": (
        receiving._lacks_approval,
        "if len(consignment.officers) < needed:",
        "if False:",
    ),
    "one approval is enough": (
        exchange._approve,
        "if len(outgoing.approvals) < proposal.officers:",
        "if False:",
    ),
    "an approval is not journaled": (
        exchange._approve,
        "effects = Effects(item, (entry,))",
        "effects = Effects(item, ())",
    ),
    "a decline is not journaled": (
        exchange._decline,
        'Effects(item, (entry_of("decline", item.id, to=event.to, by=event.by),))',
        "Effects(item, ())",
    ),
    "what is held is not journaled": (
        receiving._hold_it,
        "journal=(*effects.journal, entry),",
        "",
    ),
    "a result is not journaled": (
        exchange._result,
        "effects = Effects(item, (entry,), forget=forget)",
        "effects = Effects(item, (), forget=forget)",
    ),
    "refusals tell their reason": (
        peering.Peering.handle,
        "return REFUSED",
        'return Response(400, str(e).encode(), "text/plain")',
    ),
    "no signature is checked": (
        trust.Trust.verify,
        "self.verifies(envelope, certificate.public_key(), payload_type=kind.type())",
        "pass",
    ),
    "an outbox row is not written": (
        node.Node._write,
        'row = self._enqueue(tx, send, "" if item is None else item.id, precedence_min)',
        "row = None",
    ),
    "an officer approves in a colleague's name": (
        consignments._verify_approvals,
        "if approval.officer not in {v.name for v in verified}:",
        "if False:",
    ),
    "approvals of other releases ride along": (
        items.Item.records_for,
        "brought = (a for i in self.incoming if i.id in prior for a in i.approvals)",
        "brought = (a for i in self.incoming for a in i.approvals)",
    ),
    "a message is not padded": (
        payloads.pad_stream,
        "yield from padding(size_bytes)",
        "yield from ()",
    ),
    "the chain of releases is not checked": (
        consignments.verify_consignment,
        "if release.prior != tuple(e.record_id for e in releases[:-1]):",
        "if False:",
    ),
}

BUGS: dict[str, Callable[[], Any]] = {
    **{name: EXCHANGE_BUGS[name].patch for name in _BY_SCHEDULES},
    **{name: saying(*words) for name, words in _OWN.items()},
}


@dataclass(frozen=True)
class Search:
    """How many schedules, from seed 0, it took until a rule broke, and what that said; "" and one
    more than there were if none did."""

    schedules: int
    words: str


def search(name: str, at_most: int = SCHEDULES_MAX) -> Search:
    """Plant a bug, and play until it is found."""
    with BUGS[name]():
        for seed in range(at_most):
            try:
                play(seed)
            except Exception as e:
                return Search(seed + 1, str(e).partition("\n")[0] or type(e).__name__)
    return Search(at_most + 1, "")
