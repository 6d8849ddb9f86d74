"""Holds: an officer stops all releases to a party, and lifts the stop again."""

from typing import Any

from relto import canonical
from relto.envelope import Envelope
from relto.errors import CallerError
from relto.node import LISTING_MAX, RECORD_BYTES_MAX, Node
from relto.ports import OutboxRow, Transaction
from relto.records import Hold, decode_record
from relto.trust import Certificates

__all__ = ["Holds"]


class Holds:
    """The holds of one node's officers."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def draft(self, to: str, *, on: bool) -> Hold:
        """The record for an officer to sign. Raises CallerError for a party that is none."""
        if to not in self.node.engine.regime.parties or to == self.node.party:
            raise CallerError(f'no other party "{to}" in the regime')
        with self.node.store.read() as reader:
            seq = self.node.next_seq(reader)
        return Hold(self.node.party, to, on, seq, self.node.clock.instant())

    async def lay(self, envelope: Envelope, certificate: bytes) -> Hold:
        """Stop, or lift the stop of, all releases to a party: an officer's signed record."""
        record = decode_record(envelope, Hold)
        verified = self.node.trust.verify(
            envelope,
            Hold,
            party=self.node.party,
            roles=("officer",),
            at=record.at,
            certificates=Certificates.of([certificate]),
        )
        if record.party != self.node.party:
            raise CallerError("the hold is another party's")

        def job(tx: Transaction) -> list[str]:
            known = tx.get("hold", record.to)
            if known is not None:
                last = decode_record(Envelope.decode(known, size_bytes_max=RECORD_BYTES_MAX), Hold)
                if last.seq >= record.seq:
                    raise CallerError("a later hold of this party stands already; sign anew")
            self.node.raise_seq(tx, record.seq)
            state = "on" if record.on else "off"
            tx.put("hold", record.to, envelope.encode(), state=state)
            entry = {"event": "hold", "to": record.to, "on": record.on}
            self.node.journal(
                tx, {**entry, "by": verified[0].name or ""}, self.node.clock.instant()
            )
            peers = set()
            after = 0
            while rows := tx.outbox_rows(None, after, LISTING_MAX):
                after = rows[-1].number
                for row in rows:
                    if not self._passes(tx, row, record.to):
                        continue  # it goes on in its own time: others see nothing of the hold
                    tx.outbox_reschedule(
                        row.number, due_ms=0, attempts=row.attempts, error=row.error
                    )
                    tx.outbox_lease(
                        row.number, row.lease_until_ms
                    )  # what is leaving is not doubled
                    peers.add(row.peer)
            return sorted(peers)

        self.node.wake(await self.node.submit(job))
        return record

    def _passes(self, tx: Transaction, row: OutboxRow, party: str) -> bool:
        """Whether a row is a release that goes by `party`, and that nobody has taken yet."""
        body: Any = canonical.decode(row.body, size_bytes_max=len(row.body))
        release = body.get("release")
        item = self.node.read_item(tx, row.subject)
        outgoing = None if item is None or release is None else item.outgoing_by(release)
        return (
            outgoing is not None
            and outgoing.state in ("ready", "blocked")
            and party in outgoing.proposal.path[1:]
        )
