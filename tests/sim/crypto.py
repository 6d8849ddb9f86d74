"""Keys for simulated nodes: certificates that are the same in every process, and two ways to sign
and seal with them: the real one, and a cheap one that only the simulator takes for true.
"""

import hashlib
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from relto import envelope as dsse
from relto import peering
from relto.apps.demo.coalition import with_cas
from relto.decisions import Engine
from relto.envelope import Envelope, PublicKey, keyid, pae
from relto.errors import PeerError
from relto.hop import Hop
from relto.items import Item
from relto.keys import FileSigner, fingerprint, issue, make_ca
from relto.ports import Signer
from relto.records import Record
from relto.regime import Regime, closure, load_regime
from relto.seal import HYBRID, HpkePrivateKey, Suite
from relto.stores.folder import read_folder
from relto.trust import Verifies
from world import OFFICERS, REGIMES, START, VALIDITY, repeatable_certificates

__all__ = ["CHEAP", "REAL", "Crypto", "Keys", "Person", "engine_of", "keys_of"]

MADE_AT = datetime(2014, 12, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Person:
    """Whoever signs: a key and the certificate that vouches for it."""

    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    certificate: bytes
    keyid: str


@dataclass(frozen=True)
class Keys:
    """A party's keys."""

    ca: bytes
    node: Person
    tls: bytes
    officers: Mapping[str, Person]
    storage_key: bytes


def _secret(words: str) -> bytes:
    return hashlib.sha256(f"a simulated key: {words}".encode()).digest()


def _p256(words: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(_secret(words)[:31], "big") + 1, ec.SECP256R1())


@cache
def keys_of(party: str) -> Keys:
    """The keys of a party, made once a process and equal in every process."""
    ca_key = _p256(f"{party}/ca")
    serials = iter(range(1, 10))
    with repeatable_certificates():
        ca = make_ca(
            party, key=ca_key, now=MADE_AT, exercise=True, validity=VALIDITY, serial=next(serials)
        )

        def person(role: str, name: str | None = None) -> Person:
            words = f"{party}/{role}/{name}"
            key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey = _p256(words)
            if role == "node":
                key = ed25519.Ed25519PrivateKey.from_private_bytes(_secret(words))
            leaf = issue(
                ca=ca, ca_key=ca_key, public_key=key.public_key(), role=role, name=name,
                now=MADE_AT, validity=VALIDITY, serial=next(serials),
            )  # fmt: skip
            return Person(key, leaf.public_bytes(Encoding.DER), keyid(key.public_key()))

        return Keys(
            ca.public_bytes(Encoding.DER),
            person("node"),
            person("tls").certificate,
            {name: person("officer", name) for name in OFFICERS[party]},
            _secret(f"{party}/storage"),
        )


# Regimes

RELAY = """
format = "relto-agreement/1"
id = "relay"
kind = "arrangement"
parties = ["JPN", "KOR", "USA"]
depositary = "USA"
rests_on = ["pair-jpn-usa", "pair-kor-usa"]
title = { en = "What goes when the other arrangement does not hold" }

[[clause]]
article = "1"
text = { en = "By way of a hub that reads, reviewed at both nodes." }
[clause.share]
from = ["JPN", "KOR"]
to = ["JPN", "KOR"]
via = "USA"
protected_by = { "JPN-USA" = "pair-jpn-usa", "KOR-USA" = "pair-kor-usa" }
topics = ["reviewed"]
marks = ["KOR:II", "KOR:III", "JPN:GOKUHI", "JPN:HI"]
consent = "label"
release = "review"
"""
"""A second way for what is carried: once the first is suspended, what waits for officers is
proposed anew."""


@cache
def _files(name: str) -> dict[str, bytes]:
    files, problems = read_folder(REGIMES[name])
    assert not problems.errors
    if name == "carried":
        files = {**files, "agreements/relay.toml": RELAY.encode()}
        files["timeline.toml"] += (
            b'\n[[event]]\nagreement = "relay"\nat = 2014-01-01T00:00:00Z\nevent = "in-force"\n'
        )
    for file, data in files.items():
        if file.startswith("agreements/"):
            text = data.decode()
            cas = {
                party: fingerprint(x509.load_der_x509_certificate(keys_of(party).ca))
                for party in tomllib.loads(text)["parties"]
            }
            files[file] = with_cas(text, cas).encode()
    return files


Events = tuple[tuple[str, int, str], ...]  # agreement, seconds from the start, event


@cache
def _regime(name: str, events: Events, other_text: str) -> Regime:
    files = dict(_files(name))
    timeline = files["timeline.toml"].decode()
    for agreement, after_s, event in events:
        at = datetime.fromtimestamp(datetime.fromisoformat(START).timestamp() + after_s, UTC)
        timeline += (
            f'\n[[event]]\nagreement = "{agreement}"\nat = {at:%Y-%m-%dT%H:%M:%SZ}\n'
            f'event = "{event}"\n'
        )
    files["timeline.toml"] = timeline.encode()
    if other_text:
        file = f"agreements/{other_text}.toml"
        files[file] = files[file].replace(b"[[clause]]", b"# another edition\n[[clause]]", 1)
        files[file] = files[file].replace(b'text = { en = "', b'text = { en = "Amended. ', 1)
    return load_regime(files)


@cache
def engine_of(name: str, party: str, events: Events = (), other_text: str = "") -> Engine:
    """How a party decides. `events` are added to the timeline; `other_text` names an agreement of
    which this party has another edition than the others."""
    return Engine(closure(_regime(name, events, other_text), party))


# Crypto


class CheapSigner:
    """A signature that is a digest of key id and bytes: whoever holds the key id could forge it,
    so nothing in the simulator signs for a party but that party, and those who lie in its name."""

    def __init__(self, keyid: str) -> None:
        self.keyid = keyid

    def sign(self, data: bytes) -> bytes:
        return _cheap_signature(self.keyid, data)


def _cheap_signature(keyid: str, data: bytes) -> bytes:
    return hashlib.sha256(b"cheap" + keyid.encode() + data).digest()


@lru_cache(maxsize=256)
def _keyid_of_der(der: bytes) -> str:
    return keyid(x509.load_der_x509_certificate(der).public_key())


def _cheap_verify(envelope: Envelope, public_key: PublicKey, *, payload_type: str) -> bytes:
    if envelope.payload_type != payload_type:
        raise PeerError(f'record is of type "{envelope.payload_type}"; need "{payload_type}"')
    expected = keyid(public_key)
    signature = next((s for s in envelope.signatures if s.keyid == expected), None)
    signed = pae(envelope.payload_type, envelope.payload)
    if signature is None or signature.sig != _cheap_signature(expected, signed):
        raise PeerError("no such signature, or a bad one")
    return envelope.payload


class CheapHpke:
    """Sealing that keeps what it seals from being read by accident, and notices any change.

    `step` 0 seals the same thing to the same bytes.
    """

    def __init__(self, step: int = 1) -> None:
        self._step = step
        self._count = 0

    def encrypt(self, plaintext: bytes, public_key: bytes, info: bytes) -> bytes:
        self._count += self._step
        enc = hashlib.sha256(public_key + info + plaintext + self._count.to_bytes(8, "big"))
        sealed = _xored(plaintext, public_key, info, enc.digest())
        return enc.digest() + sealed + _tag(public_key, info, enc.digest() + sealed)

    def decrypt(self, ciphertext: bytes, private_key: bytes, info: bytes) -> bytes:
        body, tag = ciphertext[:-16], ciphertext[-16:]
        if _tag(private_key, info, body) != tag:
            raise InvalidTag
        return _xored(body[32:], private_key, info, body[:32])


def _tag(key: bytes, info: bytes, body: bytes) -> bytes:
    return (
        hashlib.blake2b(body, key=key, digest_size=16, person=b"cheap hpke").digest()[:8]
        + (hashlib.sha256(info).digest()[:8])
    )


def _xored(data: bytes, key: bytes, info: bytes, enc: bytes) -> bytes:
    stream = hashlib.shake_256(key + info + enc).digest(len(data))
    return (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(data), "big")


def _load_private(seed: bytes) -> tuple[bytes, bytes]:
    public = hashlib.sha256(b"public" + seed).digest()
    return public, public


def _cheap_suite() -> Suite:
    return Suite("cheap", CheapHpke(), 32, 32, _load_private, lambda raw: raw)


def repeatable_suite() -> Suite:
    """The cheap one, without chance."""
    return Suite("cheap", CheapHpke(step=0), 32, 32, _load_private, lambda raw: raw)


@dataclass(frozen=True)
class Crypto:
    """How simulated nodes sign, check and seal."""

    name: str
    signer: Callable[[Person], Signer]
    verifies: Verifies
    suite: Callable[[], Suite]  # one for each run

    def sign(self, person: Person, record: Record) -> Envelope:
        return dsse.sign(record.type(), record.encode(), [self.signer(person)])


CHEAP = Crypto("cheap", lambda p: CheapSigner(p.keyid), _cheap_verify, _cheap_suite)
REAL = Crypto("real", lambda p: FileSigner(p.key), dsse.verify, lambda: HYBRID)


# What is decoded once


@contextmanager
def remembered() -> Iterator[None]:
    """For cheap runs: who reads what was just written, or what another has just opened, does not
    decode it again. Values are frozen and nobody changes what is in them; runs with real keys go
    without this, and so show that what is written is what is read.
    """
    items: dict[bytes, Item] = {}
    hops: dict[tuple[bytes, str, str], tuple[Hop, ...]] = {}
    encode, decode, open_hop = Item.encode, Item.decode, peering.open_hop  # type: ignore[attr-defined]

    def encoded(self: Item) -> bytes:
        body = encode(self)
        if len(items) > 4096:
            items.clear()
        items[body] = self
        return body

    def decoded(data: bytes) -> Item:
        item = items.get(data)
        return decode(data) if item is None else item

    def opened(
        sealed: bytes, *, sender: str, recipient: str, key: HpkePrivateKey
    ) -> tuple[Hop, ...]:
        asked = (sealed, sender, recipient)
        if asked not in hops:
            if len(hops) > 512:
                hops.clear()
            hops[asked] = open_hop(sealed, sender=sender, recipient=recipient, key=key)
        return hops[asked]

    with ExitStack() as stack:
        for owner, name, value in (
            (Item, "encode", encoded),
            (Item, "decode", staticmethod(decoded)),
            (peering, "open_hop", opened),
        ):
            stack.callback(setattr, owner, name, owner.__dict__[name])
            setattr(owner, name, value)
        yield
