"""Bytes of every version that there was: this one reads them, and refuses what comes after it."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from relto import canonical
from relto.consignments import verify_consignment
from relto.errors import PeerError
from relto.hop import Hop, open_hop, seal_hop
from relto.items import Item
from relto.journals import verify_journal
from relto.records import Manifest, NodeKey, Receipt, Release, decode_record
from relto.recovering import is_known
from relto.seal import HpkePrivateKey
from relto.trust import Trust
from versions import SEED, record

FILES = sorted((Path(__file__).parent / "data" / "versions").glob("*.json"))


def written(name: str) -> dict[str, Any]:
    found: dict[str, Any] = record() if name == "now" else json.loads(Path(name).read_bytes())
    return found


@pytest.fixture(
    scope="module",
    params=["now", *map(str, FILES)],
    ids=["now", *(file.stem for file in FILES)],
)
def version(request: pytest.FixtureRequest) -> dict[str, Any]:
    return written(request.param)


def bytes_of(version: dict[str, Any], name: str) -> bytes:
    return base64.b64decode(version[name], validate=True)


def trust_of(version: dict[str, Any]) -> Trust:
    cas = {party: base64.b64decode(ca) for party, ca in version["cas"].items()}
    return Trust(cas, exercise=True)


def test_there_is_a_file_of_the_first_version() -> None:
    assert "1" in [file.stem for file in FILES]


def test_a_hop_message_is_opened_and_all_its_signatures_hold(version: dict[str, Any]) -> None:
    key = HpkePrivateKey(SEED)
    [part] = open_hop(bytes_of(version, "hop"), sender="KOR", recipient="USA", key=key)
    consignment = verify_consignment(part, trust_of(version))
    assert consignment.release.path == ("KOR", "USA", "JPN")
    assert consignment.officers == {"kim"}
    assert consignment.key == bytes(range(32))


def test_a_node_key_is_believed(version: dict[str, Any]) -> None:
    hop = Hop.decode(bytes_of(version, "node-key"))
    trust_of(version).verify_node(
        hop.records[0], NodeKey, party="USA", certificates=hop.certificates
    )
    assert len(bytes.fromhex(decode_record(hop.records[0], NodeKey).key)) == 1216


def test_an_item_document_is_read_and_written_as_it_was(version: dict[str, Any]) -> None:
    document = bytes_of(version, "item document")
    item = Item.decode(document)
    assert item.encode() == document
    assert (item.id, item.state, item.held_as) == (version["item"], "received", "USA:C")
    trust = trust_of(version)
    [incoming], [outgoing] = item.incoming, item.outgoing
    assert incoming.result is not None
    assert outgoing.release is not None
    assert outgoing.state == "delivered"
    for envelope, kind, party in (
        (incoming.release, Release, "KOR"),
        (incoming.result, Receipt, "USA"),
        (outgoing.release, Release, "USA"),
        (outgoing.results[0], Receipt, "JPN"),
    ):
        trust.verify_node(envelope, kind, party=party, certificates=item.certificates)
    assert decode_record(item.manifest_envelope, Manifest).maker == "KOR"
    assert is_known(item, outgoing.release.record_id)


def test_a_list_of_records_is_read(version: dict[str, Any]) -> None:
    listed = canonical.decode(bytes_of(version, "list"), size_bytes_max=100_000)
    entry = {k: version[k] for k in ("item", "release")} | {"record": version["release"]}
    assert isinstance(listed, dict)
    assert (listed["records"], listed["after"], listed["more"]) == ([entry], 1, False)


def test_an_exported_journal_verifies(version: dict[str, Any]) -> None:
    lines = [line.encode() + b"\n" for line in version["journal"].splitlines()]
    shown = verify_journal(lines, ca=base64.b64decode(version["cas"]["USA"]))
    assert (shown.party, shown.entries, shown.vouched) == ("USA", len(lines) - 2, True)


# What comes after this version is refused, and never read as if it were of this one.


def test_records_of_another_major_version_are_refused(version: dict[str, Any]) -> None:
    item = Item.decode(bytes_of(version, "item document"))
    release = item.incoming[0].release
    later = Hop((_of_major_2(release),)).records[0]
    with pytest.raises(PeerError, match=r"release\.v2"):
        decode_record(later, Release)


def _of_major_2(envelope: Any) -> Any:
    value = envelope.to_json()
    value["payloadType"] = value["payloadType"].replace(".v1+", ".v2+")
    return type(envelope).from_json(value)


def test_a_key_more_in_a_record_or_a_hop_is_refused(version: dict[str, Any]) -> None:
    item = Item.decode(bytes_of(version, "item document"))
    value = json.loads(item.incoming[0].release.payload)
    changed = item.incoming[0].release.to_json()
    payload = canonical.encode({**value, "more": True})
    changed["payload"] = base64.b64encode(payload).decode()
    with pytest.raises(PeerError, match="has keys other than"):
        decode_record(type(item.incoming[0].release).from_json(changed), Release)
    hop = json.loads(bytes_of(version, "node-key"))
    with pytest.raises(PeerError, match="has the keys"):
        Hop.decode(canonical.encode({**hop, "more": True}))


def test_a_hop_message_sealed_under_another_version_does_not_open(version: dict[str, Any]) -> None:
    key = HpkePrivateKey(SEED)
    sealed = bytes_of(version, "hop")
    [part] = open_hop(sealed, sender="KOR", recipient="USA", key=key)
    other = seal_hop([part.encode()], sender="JPN", recipient="USA", key=key.public_key)
    with pytest.raises(PeerError):
        open_hop(other, sender="KOR", recipient="USA", key=key)
