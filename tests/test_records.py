"""The records' decoders: what is not exactly a record is refused, with one line."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relto import canonical
from relto.decisions import Leg
from relto.envelope import Envelope, Signature
from relto.errors import PeerError
from relto.records import (
    CHAIN_MAX,
    PRECEDENCES,
    Approval,
    Hold,
    Manifest,
    NodeKey,
    Receipt,
    Record,
    Refusal,
    Release,
    decode_record,
    digest_of,
)

ID = "0123456789abcdef" * 4
OTHER = "f" * 64
NOW = "2015-01-05T00:00:00Z"
LEGS = (
    Leg("KOR", "USA", "USA:S", "gsomia-kor-usa-1987"),
    Leg("USA", "JPN", "JPN:GOKUHI", "gsomia-jpn-usa-2007"),
)
LABEL: dict[str, Any] = {
    "originator": "KOR",
    "mark": "KOR:II",
    "releasable_to": ["JPN", "USA"],
    "kind": "report",
    "topics": ["missile.launch", "nuclear.test"],
    "about": ["PRK"],
}
PATH = ("KOR", "USA", "JPN")
BASIS = {ID: "tisa-2014/4"}

RECORDS: dict[str, Record] = {
    "manifest": Manifest(LABEL, OTHER, 1234, ID, NOW),
    "approval": Approval("KOR", "kim", ID, "JPN", PATH, LEGS, BASIS, NOW),
    "release": Release(
        ID, "KOR", "JPN", PATH, LEGS, BASIS, 7, NOW, "FLASH", (ID,), (OTHER,), {"tisa-2014": OTHER}
    ),
    "receipt": Receipt(ID, "JPN", (ID, OTHER), NOW),
    "refusal": Refusal(ID, "JPN", (ID,), ("not-releasable", "recalled"), NOW),
    "hold": Hold("KOR", "JPN", True, 7, NOW),
    "node-key": NodeKey("KOR", "00ff", 7, NOW, "2015-01-12T00:00:00Z"),
}
KEYS = {
    "manifest": {"label", "ciphertext", "commitment", "at"},
    "approval": {"party", "officer", "item", "to", "path", "legs", "basis", "at"},
    "release": {
        "item", "from", "to", "path", "legs", "basis", "seq", "at", "precedence", "approvals",
        "prior", "agreements",
    },
    "receipt": {"item", "party", "releases", "at"},
    "refusal": {"item", "party", "releases", "codes", "at"},
    "hold": {"party", "to", "on", "seq", "at"},
    "node-key": {"party", "key", "seq", "at", "expires"},
}  # fmt: skip
SIGNATURE = Signature("0" * 64, b"x")
FIELDS = [(name, key) for name, keys in KEYS.items() for key in sorted(keys)]


def envelope(payload: bytes, kind: type[Record]) -> Envelope:
    return Envelope(kind.type(), payload, (SIGNATURE,))


def decoded(name: str, data: object) -> Record:
    kind = type(RECORDS[name])
    return decode_record(envelope(canonical.encode(data), kind), kind)  # type: ignore[arg-type]  # any JSON


def with_value(name: str, key: str, value: object) -> dict[str, Any]:
    return {**RECORDS[name].to_json(), key: value}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_comes_back_as_it_was(name: str) -> None:
    record = RECORDS[name]
    kind = type(record)
    again = decode_record(envelope(record.encode(), kind), kind)
    assert again == record
    assert again.encode() == record.encode()
    assert kind.type() == f"application/vnd.relto.{name}.v1+json"
    assert envelope(record.encode(), kind).record_id == digest_of(record)
    assert json.loads(record.encode()).keys() == KEYS[name]


@pytest.mark.parametrize(("name", "key"), FIELDS)
def test_a_key_that_is_missing_is_refused(name: str, key: str) -> None:
    data = RECORDS[name].to_json()
    del data[key]
    with pytest.raises(PeerError, match=key):
        decoded(name, data)


@pytest.mark.parametrize("name", RECORDS)
def test_a_key_too_many_is_refused(name: str) -> None:
    with pytest.raises(PeerError, match="surplus"):
        decoded(name, with_value(name, "surplus", 1))


@pytest.mark.parametrize(("name", "key"), FIELDS)
@pytest.mark.parametrize(
    "value", [17.0, -1, "", [], {}, True, [[]], [1], {"a": []}, "KOR ", ["", ""], 2**53], ids=repr
)
def test_a_value_of_another_type_is_refused_or_encodes_back(
    name: str, key: str, value: object
) -> None:
    """Some of these are right for some key: then the record says exactly that."""
    data = with_value(name, key, value)
    try:
        payload = canonical.encode(data)
    except Exception:
        payload = json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
    kind = type(RECORDS[name])
    try:
        record = decode_record(envelope(payload, kind), kind)
    except PeerError as e:
        line = str(e)
        assert line.isprintable()
        return
    assert record.encode() == payload


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("key", ["at", "expires", "item", "party", "to", "from", "commitment"])
@pytest.mark.parametrize("value", [None, 1, [], {}, False, "", "x" * 1000])
def test_an_instant_id_or_party_of_another_form_is_refused(
    name: str, key: str, value: object
) -> None:
    if key not in KEYS[name]:
        return
    payload = json.dumps(with_value(name, key, value), sort_keys=True, separators=(",", ":"))
    kind = type(RECORDS[name])
    with pytest.raises(PeerError):
        decode_record(envelope(payload.encode(), kind), kind)


LEG = {"from": "KOR", "to": "USA", "mark": "USA:S", "protected_by": "a"}
FAULTS: dict[str, tuple[str, str, object]] = {
    "an upper-case digest": ("receipt", "item", ID.upper()),
    "a digest with a line end": ("receipt", "item", ID + "\n"),
    "a digest of 63 digits": ("receipt", "item", ID[:63]),
    "a party in small letters": ("receipt", "party", "kor"),
    "an instant with an offset": ("receipt", "at", "2015-01-05T00:00:00+00:00"),
    "an instant that there is not": ("receipt", "at", "2015-02-30T00:00:00Z"),
    "an instant with fractions": ("receipt", "at", "2015-01-05T00:00:00.1Z"),
    "no release": ("receipt", "releases", []),
    "a chain that is too long": ("receipt", "releases", [ID] * (CHAIN_MAX + 1)),
    "a refusal with too many codes": ("refusal", "codes", ["x"] * (CHAIN_MAX + 1)),
    "an empty code": ("refusal", "codes", [""]),
    "a code that is too long": ("refusal", "codes", ["x" * 513]),
    "an unknown precedence": ("release", "precedence", "URGENT"),
    "a precedence in small letters": ("release", "precedence", "flash"),
    "a path of one": ("release", "path", ["KOR"]),
    "a path of four": ("release", "path", ["KOR", "USA", "AUS", "JPN"]),
    "a path that begins elsewhere": ("release", "path", ["AUS", "USA", "JPN"]),
    "a path that ends elsewhere": ("release", "path", ["KOR", "USA", "AUS"]),
    "a path in a circle": ("release", "path", ["KOR", "USA", "KOR"]),
    "legs of another path": ("release", "legs", [LEG, {**LEG, "from": "USA", "to": "AUS"}]),
    "a leg too few": ("release", "legs", [LEG]),
    "a leg too many": ("release", "legs", [LEG, {**LEG, "from": "USA", "to": "JPN"}, LEG]),
    "a leg with a key too many": ("release", "legs", [{**LEG, "via": "x"}]),
    "a leg with a key too few": ("release", "legs", [{"from": "KOR", "to": "USA", "mark": "x"}]),
    "no source in the basis": ("release", "basis", {}),
    "too many sources in the basis": ("release", "basis", {f"{i:064x}": "a/1" for i in range(257)}),
    "a citation that is no text": ("release", "basis", {ID: 1}),
    "too many prior releases": ("release", "prior", [ID] * CHAIN_MAX),
    "too many approvals": ("release", "approvals", [ID] * (CHAIN_MAX + 1)),
    "an agreement without a digest": ("release", "agreements", {"tisa-2014": "x"}),
    "a negative number": ("release", "seq", -1),
    "a number that is true": ("release", "seq", True),
    "a number as text": ("release", "seq", "7"),
    "a hold that is 1": ("hold", "on", 1),
    "a hold that is a text": ("hold", "on", "true"),
    "an empty key": ("node-key", "key", ""),
    "a key of half a byte": ("node-key", "key", "000"),
    "a key in capitals": ("node-key", "key", "FF"),
    "a key that is too long": ("node-key", "key", "00" * 4097),
    "a label with an id": ("manifest", "label", {**LABEL, "id": ID}),
    "a list that is not sorted": ("manifest", "label", {**LABEL, "releasable_to": ["USA", "JPN"]}),
    "topics that are not sorted": ("manifest", "label", {**LABEL, "topics": ["b", "a"]}),
    "a source that is not sorted": (
        "manifest", "label", {**LABEL, "sources": [{"item": "self", "about": ["b", "a"]}]},
    ),
    "too many sources": ("manifest", "label", {**LABEL, "sources": [{}] * 257}),
    "sources that are no objects": ("manifest", "label", {**LABEL, "sources": ["self"]}),
    "sources that are no list": ("manifest", "label", {**LABEL, "sources": {"item": "self"}}),
    "a ciphertext with a key too many": (
        "manifest", "ciphertext", {"sha256": ID, "bytes": 1, "name": "x"},
    ),
    "a ciphertext without its size": ("manifest", "ciphertext", {"sha256": ID}),
    "a ciphertext of -1 bytes": ("manifest", "ciphertext", {"sha256": ID, "bytes": -1}),
    "an officer without a name": ("approval", "officer", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_what_is_nearly_right_is_refused(case: str) -> None:
    name, key, value = FAULTS[case]
    with pytest.raises(PeerError):
        decoded(name, with_value(name, key, value))


LIMITS: dict[str, tuple[str, str, object]] = {
    "the longest chain": ("receipt", "releases", [f"{i:064x}" for i in range(CHAIN_MAX)]),
    "the most codes": ("refusal", "codes", ["x"] * CHAIN_MAX),
    "the longest code": ("refusal", "codes", ["x" * 512]),
    "no code": ("refusal", "codes", []),
    "the most prior releases": ("release", "prior", [ID] * (CHAIN_MAX - 1)),
    "the most approvals": ("release", "approvals", [ID] * CHAIN_MAX),
    "no prior release": ("release", "prior", []),
    "no approval": ("release", "approvals", []),
    "no agreement": ("release", "agreements", {}),
    "the most sources in the basis": (
        "release", "basis", {f"{i:064x}": "a/1" for i in range(256)},
    ),
    "the largest number": ("release", "seq", 2**53 - 1),
    "the number 0": ("release", "seq", 0),
    "the longest key": ("node-key", "key", "00" * 4096),
    "the most sources": ("manifest", "label", {**LABEL, "sources": [{}] * 256}),
    "an empty list of readers": ("manifest", "label", {**LABEL, "releasable_to": []}),
    "a ciphertext of no bytes": ("manifest", "ciphertext", {"sha256": ID, "bytes": 0}),
    "the longest code of a party": ("receipt", "party", "A" * 16),
}  # fmt: skip


@pytest.mark.parametrize("case", LIMITS)
def test_what_is_just_within_a_limit_is_taken(case: str) -> None:
    name, key, value = LIMITS[case]
    data = with_value(name, key, value)
    assert decoded(name, data).to_json() == data


@pytest.mark.parametrize("precedence", PRECEDENCES)
def test_there_are_four_precedences(precedence: str) -> None:
    data = with_value("release", "precedence", precedence)
    assert decoded("release", data).to_json() == data
    assert PRECEDENCES == ("FLASH", "IMMEDIATE", "PRIORITY", "ROUTINE")


def test_a_direct_release_has_one_leg() -> None:
    release = RECORDS["release"]
    assert isinstance(release, Release)
    direct = replace(release, path=("KOR", "JPN"), legs=(Leg("KOR", "JPN", "x", "a"),))
    assert decoded("release", direct.to_json()) == direct


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("other", RECORDS)
def test_a_record_is_never_taken_for_another_kind(name: str, other: str) -> None:
    if name == other:
        return
    record, kind = RECORDS[name], type(RECORDS[other])
    with pytest.raises(PeerError, match="is of type"):
        decode_record(envelope(record.encode(), type(record)), kind)
    with pytest.raises(PeerError):
        decode_record(envelope(record.encode(), kind), kind)


@pytest.mark.parametrize("name", RECORDS)
def test_another_major_version_is_refused(name: str) -> None:
    kind = type(RECORDS[name])
    later = Envelope(kind.type().replace(".v1", ".v2"), RECORDS[name].encode(), (SIGNATURE,))
    with pytest.raises(PeerError, match="v2"):
        decode_record(later, kind)


ODD_FORMS: dict[str, Callable[[bytes], bytes]] = {
    "a space": lambda data: data.replace(b":", b": ", 1),
    "a line end": lambda data: data + b"\n",
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "cut off": lambda data: data[:-1],
    "a key twice": lambda data: data[:-1] + b',"at":"2015-01-05T00:00:00Z"}',
    "no bytes": lambda data: b"",
    "a list": lambda data: b"[" + data + b"]",
    "an escape that is not needed": lambda data: data.replace(b"2015", b"\\u0032015", 1),
    "null": lambda data: b"null",
    "too large": lambda data: data + b" " * 300_000,
}


@pytest.mark.parametrize("case", ODD_FORMS)
@pytest.mark.parametrize("name", RECORDS)
def test_only_the_canonical_bytes_are_a_record(name: str, case: str) -> None:
    payload = ODD_FORMS[case](RECORDS[name].encode())
    kind = type(RECORDS[name])
    with pytest.raises(PeerError):
        decode_record(envelope(payload, kind), kind)


PLAIN = (
    st.booleans()
    | st.integers(-3, 2**53 - 1)
    | st.sampled_from(["KOR", "USA", "JPN", ID, OTHER, NOW, "FLASH", "tisa-2014/4", "", "é"])
)
VALUES = (
    PLAIN
    | st.lists(PLAIN, max_size=3)
    | st.dictionaries(st.sampled_from(["from", "to", "mark", ID, "bytes", "sha256"]), PLAIN)
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
@pytest.mark.parametrize("name", RECORDS)
def test_what_is_accepted_encodes_back_to_the_same_bytes(name: str, data: st.DataObject) -> None:
    changed = data.draw(st.sets(st.sampled_from(sorted(KEYS[name])), max_size=2))
    nearly = {**RECORDS[name].to_json(), **{key: data.draw(VALUES) for key in sorted(changed)}}
    payload = canonical.encode(nearly)
    kind = type(RECORDS[name])
    try:
        record = decode_record(envelope(payload, kind), kind)
    except PeerError as e:
        line = str(e)
        assert line.isprintable()
    else:
        assert record.encode() == payload
        assert digest_of(record) == envelope(payload, kind).record_id
