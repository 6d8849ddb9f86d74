"""A party that has all its own keys, and sends what no node of ours would."""

import asyncio
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from e2e.nodes import PATIENCE_S, Nodes
from relto import envelope as dsse
from relto import streams
from relto.decisions import Leg
from relto.envelope import Envelope
from relto.hop import INLINE_BYTES_MAX, Hop, seal_hop
from relto.instants import instant
from relto.keys import FileSigner, KeyFolder, open_key_folder, read_passphrase, read_private_key
from relto.links import Client, KeyFile, Limits, Response, client_context
from relto.payloads import Payload, pad
from relto.records import Manifest, NodeKey, Record, Release, decode_record, digest_of
from relto.regime import load_regime
from relto.seal import HpkePublicKey
from relto.stores.folder import read_folder
from relto.trust import Certificates

ARTICLE = "carried/4"
LEGS = {
    ("KOR", "USA"): Leg("KOR", "USA", "USA:C", "pair-kor-usa"),
    ("JPN", "USA"): Leg("JPN", "USA", "USA:C", "pair-jpn-usa"),
    ("USA", "JPN"): Leg("USA", "JPN", "JPN:HI", "pair-jpn-usa"),
    ("USA", "KOR"): Leg("USA", "KOR", "KOR:III", "pair-kor-usa"),
    ("AUS", "USA"): Leg("AUS", "USA", "USA:C", "pair-aus-usa"),
}
MARKS = {"AUS": "AUS:P", "KOR": "KOR:III", "JPN": "JPN:HI"}


@dataclass(frozen=True)
class Forged:
    """What one hop message says, for a test to change a part of it."""

    manifest: Manifest
    releases: tuple[Release, ...]
    signers: tuple[FileSigner, ...]  # of the manifest, then of each release
    certificates: Certificates
    key: bytes
    ciphertext: bytes

    @property
    def item(self) -> str:
        return digest_of(self.manifest)

    @property
    def release(self) -> str:
        return digest_of(self.releases[-1])

    def hop(self, *, inline: bool = True, **changed: Any) -> Hop:
        records: Sequence[Record] = (self.manifest, *self.releases)
        envelopes = tuple(
            dsse.sign(type(record).type(), record.encode(), [signer])
            for record, signer in zip(records, self.signers, strict=True)
        )
        inline = inline and len(self.ciphertext) <= INLINE_BYTES_MAX
        parts = {
            "records": envelopes,
            "certificates": self.certificates,
            "keys": {self.item: self.key},
            "ciphertexts": {self.item: self.ciphertext} if inline else {},
        }
        return Hop(**{**parts, **changed})

    def with_release(self, **changes: Any) -> "Forged":
        return replace(self, releases=(*self.releases[:-1], replace(self.releases[-1], **changes)))

    def with_manifest(self, **changes: Any) -> "Forged":
        """Another manifest, with releases that are of it."""
        manifest = replace(self.manifest, **changes)
        item = digest_of(manifest)
        releases: list[Release] = []
        for release in self.releases:
            prior = tuple(digest_of(r) for r in releases)
            releases.append(replace(release, item=item, basis={item: ARTICLE}, prior=prior))
        return replace(self, manifest=manifest, releases=tuple(releases))


class Party:
    """The keys of a party of a coalition, in the hands of whoever runs the test."""

    def __init__(self, nodes: Nodes, code: str) -> None:
        self.nodes = nodes
        self.code = code
        self.folder: KeyFolder = open_key_folder(nodes.keys(code))
        self.passphrase = read_passphrase(nodes.passphrase_file)
        self.node: FileSigner = self.folder.signer("node", self.passphrase)

    def certificate(self, role: str = "node", name: str | None = None) -> bytes:
        return self.folder.certificate(role, name).public_bytes(Encoding.DER)

    def ca_key(self) -> ec.EllipticCurvePrivateKey:
        key = read_private_key(self.folder.key_path("ca"), self.passphrase)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key

    def client(self, to: str, *, role: str = "tls", name: str | None = None, **more: Any) -> Client:
        """A connection to the node of another party, with a certificate of ours."""
        return client_to(
            self.nodes, to, self.folder.certificate_path(role, name),
            KeyFile(self.folder.key_path(role, name), self.passphrase.reveal), **more,
        )  # fmt: skip

    async def key_of(self, client: Client, party: str) -> HpkePublicKey:
        response = await client.request("GET", f"/relto/v1/node-key/{party}", timeout_s=PATIENCE_S)
        assert response.status == 200
        record = decode_record(Hop.decode(response.body).records[0], NodeKey)
        return HpkePublicKey(bytes.fromhex(record.key))

    async def seal(self, client: Client, to: str, hop: Hop, sender: str = "") -> bytes:
        key = await self.key_of(client, to)
        return seal_hop([hop.encode()], sender=sender or self.code, recipient=to, key=key)

    def item(self, content: bytes = b"", to: str = "", **label: Any) -> Forged:
        """An item of ours on its way over the hub, as the article without review has it."""
        to = to or {"KOR": "JPN", "JPN": "KOR"}[self.code]
        key = secrets.token_bytes(streams.KEY_BYTES)
        header = {"title": "forged", "media_type": "text/plain"}
        ciphertext = streams.encrypt(key, pad(Payload(header, content).encode()))
        now = instant(datetime.now(UTC).replace(microsecond=0))
        manifest = Manifest(
            {
                "originator": self.code, "mark": MARKS[self.code], "kind": "report",
                "releasable_to": sorted({"JPN", "KOR", "USA"} - {self.code}),
                "topics": ["passed"], "about": ["PRK"], **label,
            },
            hashlib.sha256(ciphertext).hexdigest(), len(ciphertext),
            streams.commitment(key).hex(), now,
        )  # fmt: skip
        release = Release(
            item=digest_of(manifest), sender=self.code, to=to, path=(self.code, "USA", to),
            legs=(LEGS[self.code, "USA"], LEGS["USA", to]), basis={digest_of(manifest): ARTICLE},
            seq=secrets.randbits(40), at=now, precedence="ROUTINE", approvals=(), prior=(),
            agreements={"carried": self._digest()},
        )  # fmt: skip
        return Forged(
            manifest, (release,), (self.node, self.node), Certificates.of([self.certificate()]),
            key, ciphertext,
        )  # fmt: skip

    def pass_on(self, forged: Forged) -> Forged:
        """The item of another, passed on by us as the hub."""
        first = forged.releases[0]
        release = replace(
            first, sender="USA", path=("USA", first.to), legs=first.legs[1:],
            prior=(digest_of(first),),
        )  # fmt: skip
        ours = Certificates.of([self.certificate()])
        return replace(
            forged, releases=(first, release), signers=(*forged.signers, self.node),
            certificates=forged.certificates.with_others(ours),
        )  # fmt: skip

    def _digest(self) -> str:
        files, _ = read_folder(self.nodes.regime)
        return load_regime(files).agreement_digests["carried"]

    def sign(self, record: Record, signer: FileSigner | None = None) -> Envelope:
        return dsse.sign(type(record).type(), record.encode(), [signer or self.node])


def client_to(
    nodes: Nodes, to: str, certificate: Path | bytes, key: KeyFile | bytes, **more: Any
) -> Client:
    context = client_context(certificate, key, [(nodes.keys(to) / "ca.crt").read_bytes()])
    limits = Limits(body_bytes_max=64 * 1024 * 1024)
    return Client("127.0.0.1", nodes.ports[to], context, check_peer=lambda der: None,
                  limits=limits, **more)  # fmt: skip


async def post(client: Client, target: str, body: bytes, query: str = "") -> Response:
    return await client.request("POST", target, body, query=query, timeout_s=PATIENCE_S)


async def hop(party: Party, client: Client, to: str, forged: Hop, sender: str = "") -> Response:
    """Send a hop message, sealed for `to`."""
    sealed = await party.seal(client, to, forged, sender)
    return await post(client, "/relto/v1/hop", sealed)


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)
