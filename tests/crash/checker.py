"""Whether anything was lost, done twice or came from nowhere, by the nodes' own records alone.

Written from docs/spec/journal.md and docs/spec/records.md, and sharing no code with the nodes: it
opens the three stores after the nodes have stopped, reads journals and receipts, and believes
neither without its hash chain or its signature. What the nodes told those who gave them items is
the load's own list.
"""

import base64
import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

RECEIPT = "application/vnd.relto.receipt.v1+json"
REFUSAL = "application/vnd.relto.refusal.v1+json"

Json = dict[str, Any]


@dataclass
class Findings:
    """Items, or lines that say what is wrong. All empty is what must be."""

    lost: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)  # how often what was there, for the record

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.repeated or self.unexpected)


@dataclass(frozen=True)
class Books:
    """What one node's store says of itself."""

    party: str
    journal: tuple[Json, ...]
    items: Mapping[str, Json]
    outbox: frozenset[str]  # items of which something is still owed

    def entries(self, event: str, item: str | None = None) -> list[Json]:
        return [e for e in self.journal if e["event"] == event and item in (None, e.get("item"))]


def check(
    stores: Mapping[str, Path],
    certificates: Mapping[str, bytes],
    acknowledged: Mapping[str, tuple[str, str]],
) -> Findings:
    """Compare the books of all nodes with each other, and with what was acknowledged.

    `stores` is the store's folder by party, `certificates` the node's certificate (DER) by party,
    `acknowledged` maps each item that a node said it had taken to its maker and its destination.
    """
    findings = Findings()
    books = {}
    for party, folder in stores.items():
        books[party] = read(party, folder, findings)
    for item, (maker, to) in acknowledged.items():
        _check_not_lost(findings, books, certificates, item, maker, to)
    for party, book in books.items():
        _check_applied_once(findings, party, book)
        _check_expected(findings, books, party, book)
    return findings


def read(party: str, folder: Path, findings: Findings) -> Books:
    """The books of a stopped node, its journal's chain verified."""
    with closing(sqlite3.connect(f"file:{folder / 'relto.db'}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT number, entry, salt, link FROM journal ORDER BY number")
        journal, link = [], bytes(32)
        for expected, (number, entry, salt, stored) in enumerate(rows, 1):
            link = hashlib.sha256(link + hashlib.sha256(salt + entry).digest()).digest()
            if (number, stored) != (expected, link):
                findings.unexpected.append(f"{party}: the journal is no chain at entry {number}")
                break
            journal.append(json.loads(entry))
        items = {
            key: json.loads(body)
            for key, body in database.execute("SELECT key, body FROM documents WHERE kind = 'item'")
        }
        outbox = frozenset(subject for (subject,) in database.execute("SELECT subject FROM outbox"))
    return Books(party, tuple(journal), items, outbox)


def _check_not_lost(
    findings: Findings,
    books: Mapping[str, Books],
    certificates: Mapping[str, bytes],
    item: str,
    maker: str,
    to: str,
) -> None:
    """Acknowledged: then it is at its destination and receipted, refused by somebody's signature,
    or still owed."""
    here, there = books[maker], books[to]
    if item not in here.items:
        findings.lost.append(f"{item}: {maker} said it had it, and has not")
        return
    results = list(_results(here.items[item]))
    receipts = [r for kind, r, _ in results if kind == RECEIPT and r["party"] == to]
    refusals = [r for kind, r, _ in results if kind == REFUSAL]
    for kind, record, signed in results:
        if not _is_signed(kind, signed, certificates[record["party"]]) or record["item"] != item:
            findings.unexpected.append(f"{item}: a result that {record['party']} did not sign")
    if receipts:
        findings.seen["delivered"] += 1
        digest = _digest(next(s for k, r, s in results if r in receipts))
        held = [e["receipt"] for e in there.entries("held", item)]
        if digest not in held or item not in there.items:
            findings.lost.append(f"{item}: {to} signed for it, and does not have it")
    elif refusals:
        findings.seen["refused"] += 1
    elif item in here.outbox:
        findings.seen["owed"] += 1
    else:
        findings.lost.append(f"{item}: neither receipted, refused nor owed at {maker}")


def _check_applied_once(findings: Findings, party: str, book: Books) -> None:
    applied = Counter((e["item"], e["release"]) for e in book.entries("held"))
    accepted = Counter((e["item"], e["release"]) for e in book.entries("accept"))
    for (item, _), times in (applied + accepted - (applied & accepted)).items():
        if times > 1:
            findings.repeated.append(f"{item}: applied {times} times at {party}")
    made = Counter(e["item"] for e in book.entries("draft"))
    findings.repeated += [f"{i}: made {n} times at {party}" for i, n in made.items() if n > 1]
    findings.seen["held"] += len(applied)


def _check_expected(
    findings: Findings, books: Mapping[str, Books], party: str, book: Books
) -> None:
    """What a node took in, its sender had journaled that it may leave."""
    for entry in book.entries("accept"):
        sender = books[entry["sender"]]
        left = {e["release"] for e in sender.entries("dispatch", entry["item"])}
        if entry["release"] not in left:
            findings.unexpected.append(
                f"{entry['item']}: {party} took a release that {sender.party} did not send"
            )
    for entry in book.entries("delivered"):
        there = books[entry["party"]]
        if entry["record"] not in {e["receipt"] for e in there.entries("held", entry["item"])}:
            findings.lost.append(f"{entry['item']}: {there.party} does not know its receipt")


def _results(item: Json) -> Iterable[tuple[str, Json, Json]]:
    """Receipts and refusals in an item's document: kind, record, envelope."""
    for outgoing in item["outgoing"]:
        for envelope in outgoing["results"]:
            yield envelope["payloadType"], json.loads(_payload(envelope)), envelope


def _payload(envelope: Json) -> bytes:
    return base64.b64decode(envelope["payload"])


def _digest(envelope: Json) -> str:
    return hashlib.sha256(_payload(envelope)).hexdigest()


def _is_signed(kind: str, envelope: Json, certificate: bytes) -> bool:
    """DSSE v1 with the Ed25519 key of the certificate."""
    key = x509.load_der_x509_certificate(certificate).public_key()
    assert isinstance(key, Ed25519PublicKey)
    payload = _payload(envelope)
    signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)
    for signature in envelope["signatures"]:
        try:
            key.verify(base64.b64decode(signature["sig"]), signed)
        except InvalidSignature:
            continue
        return True
    return False
