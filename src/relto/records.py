"""The signed records that nodes exchange (DESIGN §6; docs/spec/records.md).

Each is the payload of its own DSSE envelope; its identity is the SHA-256 of that payload. The
decoders here are strict and know no keys: `relto.trust` says whose signature a record needs.
"""

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar, Protocol, Self, TypeVar, cast

from relto import canonical
from relto.decisions import Leg
from relto.envelope import Envelope, payload_type
from relto.errors import CallerError, PeerError
from relto.fields import (
    as_hex,
    as_instant,
    as_list,
    as_number,
    as_object,
    as_party,
    as_text,
    require_keys,
)
from relto.tables import quoted

__all__ = [
    "CHAIN_MAX",
    "PRECEDENCES",
    "Approval",
    "Hold",
    "JournalHead",
    "Manifest",
    "NodeKey",
    "Receipt",
    "Record",
    "Refusal",
    "Release",
    "decode_record",
    "digest_of",
]

PRECEDENCES = ("FLASH", "IMMEDIATE", "PRIORITY", "ROUTINE")
RECORD_BYTES_MAX = 256 * 1024
PATH_MAX = 3
CHAIN_MAX = 16  # releases (the prior ones and its own) or approvals that one record names
SOURCES_MAX = 256
REMEMBERED = 2_048  # decoded records in memory, each from at most
REMEMBERED_BYTES = 8 * 1024

Json = dict[str, Any]


class Record:
    """A record's value. `NAME` and `MAJOR` make its payload type."""

    NAME: ClassVar[str]
    MAJOR: ClassVar[int] = 1

    @classmethod
    def type(cls) -> str:
        """The DSSE payloadType."""
        return payload_type(cls.NAME, cls.MAJOR)

    def to_json(self) -> Json:
        raise NotImplementedError

    @classmethod
    def from_json(cls, data: Json) -> Self:
        raise NotImplementedError

    def encode(self) -> bytes:
        """The payload that is signed."""
        return canonical.encode(self.to_json())


def digest_of(record: Record) -> str:
    """The record's identity: SHA-256 of its payload."""
    return canonical.digest(record.to_json())


@dataclass(frozen=True, slots=True)
class Manifest(Record):
    """What an item is: label (without id), digest and size of its ciphertext, key commitment.

    The item's id is the manifest's digest. It has no content, not even a title.
    """

    NAME: ClassVar[str] = "manifest"

    label: Mapping[str, Any]
    ciphertext_sha256: str
    ciphertext_bytes: int
    commitment: str
    at: str

    def to_json(self) -> Json:
        return {
            "label": dict(self.label),
            "ciphertext": {"sha256": self.ciphertext_sha256, "bytes": self.ciphertext_bytes},
            "commitment": self.commitment,
            "at": self.at,
        }

    @classmethod
    def from_json(cls, data: Json) -> Self:
        require_keys(data, "manifest", "label", "ciphertext", "commitment", "at")
        label = as_object(data["label"], "label")
        if "id" in label:
            raise PeerError("the label of a manifest has an id; the manifest's digest is the id")
        for entry in [label, *as_list(label.get("sources", []), "sources", SOURCES_MAX)]:
            for key in ("releasable_to", "topics", "about"):
                names = as_object(entry, "source").get(key)
                if isinstance(names, list) and names != sorted(names, key=str):
                    raise PeerError(f"{key} of a label is not sorted")
        ciphertext = as_object(data["ciphertext"], "ciphertext")
        require_keys(ciphertext, "ciphertext", "sha256", "bytes")
        return cls(
            label,
            as_hex(ciphertext["sha256"], "sha256"),
            as_number(ciphertext["bytes"], "bytes"),
            as_hex(data["commitment"], "commitment"),
            as_instant(data["at"]),
        )

    @property
    def maker(self) -> str:
        """The party whose item it claims to be; believed once its signature holds."""
        return str(self.label.get("originator", ""))


class Way(Protocol):
    """What an approval is bound to beside its item: recipient, path, marks and citations."""

    @property
    def to(self) -> str: ...

    @property
    def path(self) -> tuple[str, ...]: ...

    @property
    def legs(self) -> tuple[Leg, ...]: ...

    @property
    def basis(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True)
class Approval(Record):
    """A disclosure officer's approval of one release, bound to path, marks and citations.

    It names its officer, so that two officers' approvals are two records.
    """

    NAME: ClassVar[str] = "approval"

    party: str
    officer: str
    item: str
    to: str
    path: tuple[str, ...]
    legs: tuple[Leg, ...]
    basis: Mapping[str, str]
    at: str

    def is_for(self, party: str, item: str, way: Way) -> bool:
        """Whether `party` so approves exactly this release, or proposal of one, of the item."""
        return (
            self.party == party
            and self.item == item
            and self.to == way.to
            and self.path == way.path
            and self.legs == way.legs
            and dict(self.basis) == dict(way.basis)
        )

    def to_json(self) -> Json:
        return {
            "party": self.party,
            "officer": self.officer,
            "item": self.item,
            "to": self.to,
            "path": list(self.path),
            "legs": [_leg_json(leg) for leg in self.legs],
            "basis": dict(self.basis),
            "at": self.at,
        }

    @classmethod
    def from_json(cls, data: Json) -> Self:
        require_keys(
            data, "approval", "party", "officer", "item", "to", "path", "legs", "basis", "at"
        )
        return cls(
            as_party(data["party"], "party"),
            as_text(data["officer"], "officer"),
            as_hex(data["item"], "item"),
            as_party(data["to"], "to"),
            _path(data["path"]),
            _legs(data["legs"]),
            _basis(data["basis"]),
            as_instant(data["at"]),
        )


@dataclass(frozen=True, slots=True)
class Release(Record):
    """A node gives an item to `to` along `path`: the holder's signed decision.

    `basis` has for each source of the label the citation that it travels by; `legs` the mark on
    each leg. `prior` names the releases by which the sender came to hold the item, `approvals`
    the officers' approvals, `agreements` the digests of the agreements cited.
    """

    NAME: ClassVar[str] = "release"

    item: str
    sender: str
    to: str
    path: tuple[str, ...]
    legs: tuple[Leg, ...]
    basis: Mapping[str, str]
    seq: int
    at: str
    precedence: str
    approvals: tuple[str, ...]
    prior: tuple[str, ...]
    agreements: Mapping[str, str]

    def to_json(self) -> Json:
        return {
            "item": self.item,
            "from": self.sender,
            "to": self.to,
            "path": list(self.path),
            "legs": [_leg_json(leg) for leg in self.legs],
            "basis": dict(self.basis),
            "seq": self.seq,
            "at": self.at,
            "precedence": self.precedence,
            "approvals": list(self.approvals),
            "prior": list(self.prior),
            "agreements": dict(self.agreements),
        }

    @classmethod
    def from_json(cls, data: Json) -> Self:
        require_keys(
            data,
            "release",
            *("item", "from", "to", "path", "legs", "basis", "seq", "at"),
            *("precedence", "approvals", "prior", "agreements"),
        )
        release = cls(
            as_hex(data["item"], "item"),
            as_party(data["from"], "from"),
            as_party(data["to"], "to"),
            _path(data["path"]),
            _legs(data["legs"]),
            _basis(data["basis"]),
            as_number(data["seq"], "seq"),
            as_instant(data["at"]),
            _precedence(data["precedence"]),
            tuple(
                as_hex(a, "approval") for a in as_list(data["approvals"], "approvals", CHAIN_MAX)
            ),
            tuple(as_hex(p, "prior") for p in as_list(data["prior"], "prior", CHAIN_MAX - 1)),
            {k: as_hex(v, k) for k, v in as_object(data["agreements"], "agreements").items()},
        )
        ends = [(leg.sender, leg.receiver) for leg in release.legs]
        if (
            (release.path[0], release.path[-1]) != (release.sender, release.to)
            or ends != list(pairwise(release.path))
            or len(set(release.path)) != len(release.path)
        ):
            raise PeerError("path and legs of a release do not lead from its sender to its end")
        return release

    @property
    def next(self) -> str:
        """The party that gets it from the sender: the hub, or the last."""
        return self.path[1]


@dataclass(frozen=True, slots=True)
class Receipt(Record):
    """A party has the item durably. `releases` is the chain that brought it, first to last."""

    NAME: ClassVar[str] = "receipt"

    item: str
    party: str
    releases: tuple[str, ...]
    at: str

    def to_json(self) -> Json:
        return {
            "item": self.item,
            "party": self.party,
            "releases": list(self.releases),
            "at": self.at,
        }

    @classmethod
    def from_json(cls, data: Json) -> Self:
        require_keys(data, "receipt", "item", "party", "releases", "at")
        return cls(
            as_hex(data["item"], "item"),
            as_party(data["party"], "party"),
            _chain(data["releases"]),
            as_instant(data["at"]),
        )


@dataclass(frozen=True, slots=True)
class Refusal(Record):
    """A party on the path will not take or pass on the item; `codes` say why, fixed words only."""

    NAME: ClassVar[str] = "refusal"

    item: str
    party: str
    releases: tuple[str, ...]
    codes: tuple[str, ...]
    at: str

    def to_json(self) -> Json:
        return {
            "item": self.item,
            "party": self.party,
            "releases": list(self.releases),
            "codes": list(self.codes),
            "at": self.at,
        }

    @classmethod
    def from_json(cls, data: Json) -> Self:
        require_keys(data, "refusal", "item", "party", "releases", "codes", "at")
        return cls(
            as_hex(data["item"], "item"),
            as_party(data["party"], "party"),
            _chain(data["releases"]),
            tuple(as_text(c, "code") for c in as_list(data["codes"], "codes", CHAIN_MAX)),
            as_instant(data["at"]),
        )


@dataclass(frozen=True, slots=True)
class Hold(Record):
    """An officer stops (`on`) or lifts all releases from `party` to `to`. Never sent."""

    NAME: ClassVar[str] = "hold"

    party: str
    to: str
    on: bool
    seq: int
    at: str

    def to_json(self) -> Json:
        return {
            "party": self.party,
            "to": self.to,
            "on": self.on,
            "seq": self.seq,
            "at": self.at,
        }

    @classmethod
    def from_json(cls, data: Json) -> Self:
        require_keys(data, "hold", "party", "to", "on", "seq", "at")
        if not isinstance(data["on"], bool):
            raise PeerError("on of a hold is not true or false")
        return cls(
            as_party(data["party"], "party"),
            as_party(data["to"], "to"),
            data["on"],
            as_number(data["seq"], "seq"),
            as_instant(data["at"]),
        )


@dataclass(frozen=True, slots=True)
class NodeKey(Record):
    """A node announces its HPKE key of the week, in hexadecimal."""

    NAME: ClassVar[str] = "node-key"

    party: str
    key: str
    seq: int
    at: str
    expires: str

    def to_json(self) -> Json:
        return {
            "party": self.party,
            "key": self.key,
            "seq": self.seq,
            "at": self.at,
            "expires": self.expires,
        }

    @classmethod
    def from_json(cls, data: Json) -> Self:
        require_keys(data, "node-key", "party", "key", "seq", "at", "expires")
        key = data["key"]
        if not isinstance(key, str) or not re.fullmatch(r"([0-9a-f]{2}){1,4096}", key):
            raise PeerError("key of a node-key is not hexadecimal")
        return cls(
            as_party(data["party"], "party"),
            key,
            as_number(data["seq"], "seq"),
            as_instant(data["at"]),
            as_instant(data["expires"]),
        )


@dataclass(frozen=True, slots=True)
class JournalHead(Record):
    """Number and link of the last entry of a node's journal, as it stood when it was exported."""

    NAME: ClassVar[str] = "journal-head"

    party: str
    entries: int
    link: str
    at: str

    def to_json(self) -> Json:
        return {"party": self.party, "entries": self.entries, "link": self.link, "at": self.at}

    @classmethod
    def from_json(cls, data: Json) -> Self:
        require_keys(data, "journal-head", "party", "entries", "link", "at")
        return cls(
            as_party(data["party"], "party"),
            as_number(data["entries"], "entries"),
            as_hex(data["link"], "link"),
            as_instant(data["at"]),
        )


R = TypeVar("R", bound=Record)


def decode_record(envelope: Envelope, kind: type[R]) -> R:
    """The record of that kind in an envelope, whose signature is for others to check.

    Raises:
        PeerError: another type or major version, or a payload that is not exactly such a record.
    """
    if envelope.payload_type != kind.type():
        raise PeerError(f"record is of type {quoted(envelope.payload_type)}, not {kind.type()}")
    if len(envelope.payload) > REMEMBERED_BYTES:
        return _decode(envelope.payload, kind)
    return cast(R, _remembered(envelope.payload, cast(Hashable, kind)))


@lru_cache(maxsize=REMEMBERED)
def _remembered(payload: bytes, kind: Any) -> Any:
    """A record is looked at many times on its way. What is refused is not kept."""
    return _decode(payload, kind)


def _decode(payload: bytes, kind: type[R]) -> R:
    data = canonical.decode(payload, size_bytes_max=RECORD_BYTES_MAX)
    try:
        return kind.from_json(as_object(data, kind.NAME))
    except CallerError as e:
        raise PeerError(str(e)) from e


def _precedence(value: object) -> str:
    if value not in PRECEDENCES:
        raise PeerError(f"precedence is {quoted(value)}; there are {', '.join(PRECEDENCES)}")
    return str(value)


def _path(value: object) -> tuple[str, ...]:
    path = tuple(as_party(p, "path") for p in as_list(value, "path", PATH_MAX))
    if len(path) < 2:
        raise PeerError("a path has two or three parties")
    return path


def _chain(value: object) -> tuple[str, ...]:
    chain = tuple(as_hex(r, "release") for r in as_list(value, "releases", CHAIN_MAX))
    if not chain:
        raise PeerError("releases is an empty list; name the release")
    return chain


def _basis(value: object) -> dict[str, str]:
    basis = as_object(value, "basis")
    if not 0 < len(basis) <= SOURCES_MAX:
        raise PeerError(f"basis has {len(basis)} sources; 1 to {SOURCES_MAX} are allowed")
    return {source: as_text(citation, "citation") for source, citation in basis.items()}


def _leg_json(leg: Leg) -> Json:
    return {
        "from": leg.sender,
        "to": leg.receiver,
        "mark": leg.mark,
        "protected_by": leg.protected_by,
    }


def _legs(value: object) -> tuple[Leg, ...]:
    legs = []
    for entry in as_list(value, "legs", PATH_MAX - 1):
        data = as_object(entry, "leg")
        require_keys(data, "leg", "from", "to", "mark", "protected_by")
        legs.append(
            Leg(
                as_party(data["from"], "from"),
                as_party(data["to"], "to"),
                as_text(data["mark"], "mark"),
                as_text(data["protected_by"], "protected_by"),
            )
        )
    return tuple(legs)
