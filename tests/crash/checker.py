"""Whether anything was lost, done twice or came from nowhere, by what stopped nodes left behind.

Shares no code with the nodes: it is written from docs/spec (journal, records, store) and imports
nothing but the standard library and `cryptography`. What the nodes told those who gave them items
is the load's own list.
"""

import base64
import hashlib
import json
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

Json = dict[str, Any]

TYPE = "application/vnd.relto.{}.v1+json"
CHAIN_START = bytes(32)
# By event, what makes it the same again: each is in a journal at most once.
ONCE = {
    "draft": ("item",),
    "release": ("release",),
    "accept": ("release",),
    "held": ("release",),
    "with-hub": ("release", "party"),
    "delivered": ("release", "party"),
}


@dataclass
class Findings:
    """Lines that say what is wrong. All empty is what must be.

    lost: acknowledged, and neither delivered and receipted, nor refused by a signed reason, nor
    still owed in an outbox; or receipted and not there. repeated: done twice that is done once.
    unexpected: held without having been sent, answered without having been held, signed by nobody
    who may, other bytes than those stated, a broken chain, a damaged row.
    """

    lost: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)  # how often what was there, for the record

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.repeated or self.unexpected)


def row_digest(*fields: str | int | bytes) -> bytes:
    """The digest of a row: SHA-256 over its fields, each with its length in 8 bytes before it."""
    digest = hashlib.sha256()
    for each in fields:
        data = each if isinstance(each, bytes) else str(each).encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.digest()


def link_after(link: bytes, salt: bytes, entry: bytes) -> bytes:
    return hashlib.sha256(link + hashlib.sha256(salt + entry).digest()).digest()


class Record:
    """A signed record as it lies in an item: a DSSE envelope."""

    def __init__(self, envelope: Json) -> None:
        self.type: str = envelope["payloadType"]
        self.payload = base64.b64decode(envelope["payload"], validate=True)
        self.signatures = [
            (s["keyid"], base64.b64decode(s["sig"], validate=True)) for s in envelope["signatures"]
        ]
        self.id = hashlib.sha256(self.payload).hexdigest()
        self.body: Json = json.loads(self.payload)

    def is_a(self, kind: str) -> bool:
        return self.type == TYPE.format(kind)

    @property
    def signed(self) -> bytes:
        kind = self.type.encode()
        return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(self.payload), self.payload)


def is_signed(
    record: Record, party: str, roles: Iterable[str], ders: Json, ca: x509.Certificate
) -> bool:
    """Whether a key of `party` in one of `roles`, vouched for by its CA at `at`, signed it."""
    at = datetime.strptime(record.body["at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    for keyid, signature in record.signatures:
        if keyid not in ders:
            continue
        leaf = x509.load_der_x509_certificate(base64.b64decode(ders[keyid]))
        key = leaf.public_key()
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        [uri] = names.get_values_for_type(x509.UniformResourceIdentifier)
        _, _, owner = uri.partition("://")
        if hashlib.sha256(spki).hexdigest() != keyid or owner.split("/")[0] != party:
            continue
        if owner.split("/")[1] not in roles:
            continue
        if not leaf.not_valid_before_utc <= at <= leaf.not_valid_after_utc:
            continue
        try:
            leaf.verify_directly_issued_by(ca)
            if isinstance(key, ed25519.Ed25519PublicKey):
                key.verify(signature, record.signed)
            elif isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(signature, record.signed, ec.ECDSA(hashes.SHA256()))
            else:
                continue
        except (InvalidSignature, ValueError, TypeError):
            continue
        return True
    return False


class Store:
    """What one party's node left behind, copied before it is opened: opening would change it."""

    def __init__(self, party: str, folder: Path, ca: Path, found: Findings) -> None:
        self.party = party
        self.ca = x509.load_pem_x509_certificate(ca.read_bytes())
        self.blobs = folder / "blobs"
        self._found = found
        self.entries: list[Json] = []
        self._by_item: dict[tuple[str, str], list[Json]] = {}
        self.items: dict[str, Json] = {}
        self.ciphertexts: dict[str, bytes] = {}
        self.owed: set[tuple[str, str]] = set()
        with tempfile.TemporaryDirectory() as copy:
            for name in ("relto.db", "relto.db-wal"):
                if (folder / name).exists():
                    shutil.copy(folder / name, copy)
            database = sqlite3.connect(Path(copy) / "relto.db")
            try:
                self._read(database)
            except sqlite3.DatabaseError as error:
                self.unexpected(f"the database cannot be read: {error}")
            finally:
                database.close()

    def unexpected(self, what: str) -> None:
        self._found.unexpected.append(f"{self.party}: {what}")

    def _read(self, database: sqlite3.Connection) -> None:
        [(state,)] = database.execute("PRAGMA integrity_check(1)").fetchall()
        if state != "ok":
            self.unexpected(f"integrity check: {state}")
        link = CHAIN_START
        rows = database.execute("SELECT number, entry, salt, link FROM journal ORDER BY number")
        for expected, (number, entry, salt, stated) in enumerate(rows, 1):
            link = link_after(link, salt, entry)
            if (number, stated) != (expected, link):
                self.unexpected(f"the journal's chain breaks at entry {expected}")
                link = stated
            read = json.loads(entry)
            self.entries.append(read)
            self._by_item.setdefault((read["event"], read.get("item", "")), []).append(read)
        rows = database.execute("SELECT kind, key, state, rank, body, digest FROM documents")
        for kind, key, state, rank, body, digest in rows:
            if digest != row_digest(kind, key, state, rank, body):
                self.unexpected(f"{kind} {key} is damaged")
            elif kind == "item":
                self.items[key] = json.loads(body)
            elif kind == "ciphertext":
                self.ciphertexts[key] = body
        rows = database.execute(
            "SELECT number, peer, precedence, due_ms, lease_until_ms, attempts, error, subject,"
            " body, digest FROM outbox"
        )
        for *fields, digest in rows:
            if digest != row_digest(*fields):
                self.unexpected(f"outbox row {fields[0]} is damaged")
            else:
                self.owed.add((fields[1], fields[7]))

    def events(self, event: str, item: str | None = None) -> list[Json]:
        if item is not None:
            return self._by_item.get((event, item), [])
        return [entry for entry in self.entries if entry["event"] == event]

    def has(self, event: str, item: str, **keys: str) -> bool:
        return any(all(e.get(k) == v for k, v in keys.items()) for e in self.events(event, item))

    def has_bytes(self, item: Json) -> bool:
        """Whether the ciphertext is here and the one that the manifest states."""
        manifest = json.loads(base64.b64decode(item["manifest"]))["ciphertext"]
        if item["stored"] == "row":
            data = self.ciphertexts.get(item["id"], b"")
        elif item["stored"]:
            file = self.blobs / item["stored"]
            data = file.read_bytes() if file.exists() else b""
        else:
            return False
        found = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        return bool(found == manifest)


class _Check:
    """Every store beside the others, and beside what was acknowledged."""

    def __init__(
        self,
        stores: Mapping[str, Path],
        cas: Mapping[str, Path],
        acknowledged: Mapping[str, tuple[str, str]],
        attempts: Mapping[str, int],
    ) -> None:
        self.found = Findings()
        self.acknowledged = acknowledged
        self.attempts = attempts
        self.stores = {
            party: Store(party, folder, cas[party], self.found) for party, folder in stores.items()
        }

    def run(self) -> Findings:
        for store in self.stores.values():
            self.found.seen["entries"] += len(store.entries)
            self.found.seen["held"] += len(store.events("held"))
            self._once(store)
            self._remembers(store)
            self._made(store)
            for item in store.items.values():
                self._item(store, item)
        for name, (maker, to) in self.acknowledged.items():
            self._acknowledged(name, maker, to)
        self._applied_once()
        return self.found

    def _once(self, store: Store) -> None:
        for event, keys in ONCE.items():
            counts = Counter(tuple(e[k] for k in keys) for e in store.events(event))
            for key, count in counts.items():
                if count > 1:
                    self.found.repeated.append(f"{store.party}: {event} {key}, {count} times")

    def _remembers(self, store: Store) -> None:
        """A node whose peers know more of it than itself has lost what it had committed."""
        for event in ("behind", "recovered", "twin"):
            for entry in store.events(event):
                store.unexpected(f"its store had lost something: {event} {entry.get('release')}")

    def _made(self, store: Store) -> None:
        made = len(store.events("draft"))
        if made > self.attempts.get(store.party, 0):
            store.unexpected(f"{made} items were made, more than anybody asked for")

    def _item(self, store: Store, item: Json) -> None:
        """That every record in an item is signed, and says what journals say."""
        name = item["id"]
        manifest = base64.b64decode(item["manifest"])
        if hashlib.sha256(manifest).hexdigest() != name:
            store.unexpected(f"{name}: its manifest is another's")
        maker = json.loads(manifest)["label"]["originator"]
        if item["made_here"] and not store.has("draft", item=name):
            store.unexpected(f"{name}: made here, and not in the journal")
        if item["signatures"]:
            signatures = [{"keyid": k, "sig": s} for k, s in item["signatures"]]
            self._signed(
                store,
                item,
                Record({
                    "payload": item["manifest"],
                    "payloadType": TYPE.format("manifest"),
                    "signatures": signatures,
                }),
                maker,
                ("officer", "node"),
            )  # fmt: skip
        for way in item["outgoing"]:
            if "release" in way:
                release = Record(way["release"])
                self._signed(store, item, release, store.party)
                if not store.has("release", item=name, release=release.id):
                    store.unexpected(f"{name}: release {release.id} is not in the journal")
            for envelope in way["results"]:
                self._result(store, item, Record(envelope))
        for way in item["incoming"]:
            self._incoming(store, item, way)

    def _incoming(self, store: Store, item: Json, way: Json) -> None:
        name = item["id"]
        release = Record(way["release"])
        body = release.body
        self._signed(store, item, release, body["from"])
        if body["item"] != name:
            store.unexpected(f"{name}: release {release.id} is of another item")
        if way["state"] != "refused" and not store.has("accept", item=name, release=release.id):
            store.unexpected(f"{name}: release {release.id} was accepted and not journaled")
        for event in ("release", "dispatch"):
            sender = self.stores[body["from"]]
            if not sender.has(event, item=name, release=release.id):
                store.unexpected(
                    f"{name}: {body['from']} has no {event} of {release.id}, which came here"
                )
        if way["state"] == "held":
            if not store.has("held", item=name, release=release.id):
                store.unexpected(f"{name}: held by {release.id}, and not in the journal")
            if "result" not in way or not Record(way["result"]).is_a("receipt"):
                store.unexpected(f"{name}: held by {release.id} without a receipt")
            if not store.has_bytes(item):
                store.unexpected(f"{name}: held without the bytes that its manifest states")
        for envelope in (*([way["result"]] if "result" in way else []), *way["later"]):
            self._result(store, item, Record(envelope))

    def _result(self, store: Store, item: Json, result: Record) -> None:
        """That a receipt or refusal is its party's own, which has what it speaks of."""
        name, party = item["id"], result.body["party"]
        self._signed(store, item, result, party)
        if result.body["item"] != name:
            store.unexpected(f"{name}: result {result.id} is of another item")
        release = result.body["releases"][-1]
        its = self.stores[party]
        if result.is_a("receipt"):
            if not its.has("held", item=name, release=release, receipt=result.id):
                store.unexpected(f"{name}: a receipt of {party}, which holds nothing by {release}")
        elif not any(
            its.has("refuse", item=name, release=each) for each in result.body["releases"]
        ):
            store.unexpected(f"{name}: a refusal of {party}, which journaled none")

    def _signed(
        self, store: Store, item: Json, record: Record, party: str, roles: Iterable[str] = ("node",)
    ) -> None:
        ca = self.stores[party].ca
        if not is_signed(record, party, roles, item["certificates"], ca):
            store.unexpected(f"{item['id']}: {record.type} {record.id} is not signed by {party}")

    def _acknowledged(self, item: str, maker: str, to: str) -> None:
        words = f"{item} from {maker} to {to}"
        at_maker, at_end = self.stores[maker], self.stores[to]
        kept = at_maker.items.get(item)
        if kept is None or not at_maker.has_bytes(kept):
            self.found.lost.append(f"{words}: its maker has it no longer")
            return
        ways = [way for way in kept["outgoing"] if way["to"] == to]
        results = [Record(e) for way in ways for e in way["results"]]
        signed = [
            r
            for r in results
            if is_signed(r, r.body["party"], ("node",), kept["certificates"],
                         self.stores[r.body["party"]].ca)
        ]  # fmt: skip
        if any(r.is_a("receipt") and r.body["party"] == to for r in signed):
            there = at_end.items.get(item)
            if there is None or not at_end.has_bytes(there) or not at_end.has("held", item=item):
                self.found.lost.append(f"{words}: receipted and not there")
            else:
                self.found.seen["delivered"] += 1
        elif any(r.is_a("refusal") for r in signed):
            self.found.seen["refused"] += 1
        elif any((way["path"][1], item) in at_maker.owed for way in ways):
            self.found.seen["owed"] += 1
        else:
            self.found.lost.append(f"{words}: neither settled nor owed")

    def _applied_once(self) -> None:
        """An acknowledged item was sent once, so it comes to its destination by one release."""
        for item, (_, to) in self.acknowledged.items():
            by = {e["release"] for e in self.stores[to].events("held", item)}
            if len(by) > 1:
                self.found.repeated.append(f"{item}: held by {len(by)} releases")


def check(
    stores: Mapping[str, Path],
    cas: Mapping[str, Path],
    acknowledged: Mapping[str, tuple[str, str]],
    attempts: Mapping[str, int],
) -> Findings:
    """Compare what all nodes left with each other, and with what was acknowledged.

    `stores` is the store's folder by party, `cas` the file with its CA's certificate,
    `acknowledged` maps each item that a node said it had taken to its maker and its destination,
    `attempts` says how many items each node was asked to take, whether it answered or not.
    """
    return _Check(stores, cas, acknowledged, attempts).run()
