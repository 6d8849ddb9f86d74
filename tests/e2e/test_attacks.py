"""What an outsider, a party with valid keys, and somebody at the disk can do: nothing that counts.

Every test sends to real nodes what no node of ours would send.
"""

import asyncio
import contextlib
import random
import socket
import sqlite3  # the node is stopped: this is somebody else's program
import ssl
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from e2e.forge import ARTICLE, Forged, Party, client_to, hop, post, run
from e2e.nodes import PARTIES, PATIENCE_S, Nodes, until
from relto import streams
from relto.apps import clock
from relto.envelope import Signature
from relto.hop import Hop
from relto.issuing import issue, make_ca
from relto.keys import Passphrase, ScryptCost, create_key_folder, read_private_key
from relto.links import Client, LinkError, Response, unix_request
from relto.payloads import Payload, pad
from relto.records import Receipt, Refusal

REFUSED = (400, b'{"status":"refused"}', "application/json")
CHEAP = ScryptCost(n=2, r=1, p=1)
SEED = 1987


def told(response: Response) -> tuple[int, bytes, str]:
    """All that an answer says."""
    return response.status, response.body, response.content_type


def held(nodes: Nodes, party: str, item: str) -> bool:
    return item in [i["id"] for i in nodes.inbox(party, "--all")]


# Outsiders


async def answers(client: Client) -> Response | None:
    try:
        return await client.request("GET", "/relto/v1/node-key/USA", timeout_s=PATIENCE_S)
    except LinkError:
        return None
    finally:
        await client.close()


def strangers(nodes: Nodes, folder: Path) -> dict[str, Callable[[], Client]]:
    """Clients with a certificate that a node has no reason to talk to."""
    now = clock.now().replace(microsecond=0)
    passphrase = Passphrase("whatever")

    def made(name: str, *, exercise: bool) -> Callable[[], Client]:
        path = folder / name
        keys = create_key_folder(
            path, party="KOR", passphrase=passphrase, now=now, exercise=exercise, cost=CHEAP
        )
        key = read_private_key(keys.key_path("tls"), passphrase).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        pem = keys.certificate("tls").public_bytes(Encoding.PEM)
        return lambda: client_to(nodes, "USA", pem, key)

    kor = Party(nodes, "KOR")
    return {
        "another CA of the same name": made("foreign", exercise=True),
        "a real certificate at an exercise": made("real", exercise=False),
        "an officer's certificate": lambda: kor.client("USA", role="officer", name="kim"),
        "the node's signing certificate": lambda: kor.client("USA", role="node"),
        "the party's signing certificate": lambda: kor.client("USA", role="signing"),
    }


def test_who_is_no_peer_gets_no_answer_at_all(carried: Nodes, tmp_path: Path) -> None:
    for name, client in strangers(carried, tmp_path).items():
        assert run(answers(client())) is None, name
    assert run(answers(Party(carried, "KOR").client("USA"))) is not None
    # A party whose agreement names its CA, but which is no peer of that node.
    assert run(answers(Party(carried, "KOR").client("JPN"))) is None


def test_a_certificate_that_a_partys_ca_made_for_another_party_is_no_certificate(
    carried: Nodes,
) -> None:
    """KOR's CA vouches for KOR alone, though the TLS handshake with USA knows that CA."""
    kor = Party(carried, "KOR")
    ca_key = kor.ca_key()
    now = clock.now().replace(microsecond=0)
    their_ca = make_ca("JPN", key=ca_key, now=now, exercise=True)
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = issue(ca=their_ca, ca_key=ca_key, now=now, public_key=key.public_key(), role="tls")
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    client = client_to(carried, "USA", leaf.public_bytes(Encoding.PEM), pem)
    assert run(answers(client)) is None


def test_who_shows_no_certificate_gets_no_answer(carried: Nodes) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", carried.ports["USA"]), timeout=PATIENCE_S) as sock:
        data = b""
        with contextlib.suppress(ssl.SSLError, ConnectionError), context.wrap_socket(sock) as tls:
            tls.sendall(b"GET /relto/v1/node-key/USA HTTP/1.1\r\nHost: relto\r\n\r\n")
            data = tls.recv(4096)
        assert data == b""


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2])
def test_nothing_older_than_tls_1_3_is_spoken(carried: Nodes, version: ssl.TLSVersion) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = version
    with (
        socket.create_connection(("127.0.0.1", carried.ports["USA"]), timeout=PATIENCE_S) as sock,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(sock)


def test_strangers_who_hoard_connections_stop_nobody(carried: Nodes) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            sock = stack.enter_context(socket.socket())
            sock.settimeout(PATIENCE_S)
            sock.bind(("127.0.0.2", 0))  # a crowd has no peer's address
            sock.connect(("127.0.0.1", carried.ports["USA"]))
        item = carried.shared("KOR", b"through the crowd", to="JPN", topic="passed")
        carried.wait_for("KOR", item, "JPN", "delivered", timeout_s=PATIENCE_S)


def test_a_peer_that_trickles_loses_its_connections_and_others_go_on(carried: Nodes) -> None:
    async def trickle() -> bytes:
        kor = Party(carried, "KOR").client("USA")
        context = kor._context
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", carried.ports["USA"], ssl=context, server_hostname=""
        )
        writer.write(b"POST /relto/v1/hop HTTP/1.1\r\nHost: re")
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await reader.read()  # ends when the node hangs up
        except ConnectionError:
            return b""
        finally:
            writer.transport.abort()
            await kor.close()

    async def all_of_them() -> list[bytes]:
        return await asyncio.gather(*(trickle() for _ in range(7)))

    assert set(run(all_of_them())) == {b""}
    item = carried.shared("JPN", b"meanwhile", to="KOR", topic="passed")
    carried.wait_for("JPN", item, "KOR", "delivered", timeout_s=PATIENCE_S)


# A party with valid keys


def test_what_a_party_forges_well_is_taken_like_any_other(carried: Nodes) -> None:
    """The forger of the tests below is able: its own items go all the way."""

    async def scenario() -> Forged:
        kor = Party(carried, "KOR")
        client = kor.client("USA")
        forged = kor.item(b"true")
        assert (await hop(kor, client, "USA", forged.hop())).status == 200
        await client.close()
        return forged

    forged = run(scenario())
    until(lambda: held(carried, "JPN", forged.item), "the forged item")
    assert carried.content("JPN", forged.item) == b"true"


def altered(kor: Party, jpn: Party, usa: Party) -> dict[str, Hop]:
    """Hop messages from KOR to USA, each with one thing wrong."""
    good = kor.item(b"good")
    theirs = jpn.item(b"theirs")
    receipt = Receipt(good.item, "JPN", (good.release,), good.manifest.at)
    return {
        "a manifest of another party": kor.item(originator="JPN", mark="JPN:HI").hop(),
        "another party's item as its sender": replace(
            theirs, signers=(jpn.node, kor.node),
            certificates=theirs.certificates.with_others(good.certificates),
        ).with_release(sender="KOR", path=("KOR", "USA", "JPN"), legs=good.releases[0].legs).hop(),
        "another party's item, verbatim": theirs.hop(),
        "a release to another next": good.with_release(
            path=("KOR", "JPN"), legs=(replace(good.releases[0].legs[1], sender="KOR"),)
        ).hop(),
        "a ciphertext with a bit turned": good.hop(
            ciphertexts={good.item: good.ciphertext[:-1] + bytes([good.ciphertext[-1] ^ 1])}
        ),
        "another payload key": good.hop(keys={good.item: bytes(32)}),
        "no payload key": good.hop(keys={}),
        "a key of another item": good.hop(keys={theirs.item: theirs.key}),
        "a manifest signed by an officer's key of another": replace(
            good, signers=(usa.folder.signer("officer", usa.passphrase, "smith"), kor.node)
        ).hop(),
        "no certificates": good.hop(certificates=type(good.certificates)()),
        "a malformed label": kor.item(topics=["no-such-topic"]).hop(),
        "a label of wrong type": kor.item(topics=7).hop(),
        "a label with a line break": kor.item(kind="x\nINFO all is well").hop(),
        "an unsigned list order": kor.item(releasable_to=["USA", "JPN"]).hop(),
        "no manifest": good.hop(records=good.hop().records[1:]),
        "a manifest twice": good.hop(records=(*good.hop().records, good.hop().records[0])),
        "a receipt for another": good.hop(records=(kor.sign(receipt),)),
        "a receipt of what never was": good.hop(
            records=(kor.sign(replace(receipt, party="KOR")),)
        ),
        "a refusal of another's item": good.hop(
            records=(kor.sign(Refusal(theirs.item, "KOR", (theirs.release,), ("no",),
                                      good.manifest.at)),)
        ),
    }  # fmt: skip


def test_every_refusal_to_a_party_is_the_same_to_the_byte(carried: Nodes) -> None:
    kor, jpn, usa = (Party(carried, party) for party in ("KOR", "JPN", "USA"))
    for_jpn = carried.shared("USA", b"not for KOR", to="JPN", topic="paired")  # waits at USA

    async def scenario() -> dict[str, tuple[int, bytes, str]]:
        client = kor.client("USA")
        found = {}
        for name, message in altered(kor, jpn, usa).items():
            found[name] = told(await hop(kor, client, "USA", message))
        good = kor.item(b"never sent")
        sealed = await kor.seal(client, "USA", good.hop())
        for name, body in {
            "a hop cut off": sealed[:-1],
            "a hop with a bit turned": sealed[:-1] + bytes([sealed[-1] ^ 1]),
            "a hop of some bytes": b"hop",
            "a hop of nothing": b"",
            "a hop sealed as another's": await kor.seal(client, "USA", good.hop(), "JPN"),
        }.items():
            found[name] = told(await post(client, "/relto/v1/hop", body))
        for name, target, query in [
            ("a range of nothing", "0" * 64, "offset=0"),
            ("a range of an item that is here for another", for_jpn, "offset=0"),
            ("a range at no offset", "0" * 64, ""),
            ("a range at a huge offset", "0" * 64, "offset=9999999999999"),
            ("a range at a negative offset", "0" * 64, "offset=-1"),
            ("a range of no release", "zz", "offset=0"),
        ]:
            response = await post(client, f"/relto/v1/ciphertext/{target}", b"x", query)
            found[name] = told(response)
        for target in (
            *("/relto/v1/node-key/FRA", "/relto/v1/node-key/kor", "/relto/v1/items", "/status"),
            *(f"/items/{for_jpn}", f"/relto/v1/items/{for_jpn}", "/"),
        ):
            response = await client.request("GET", target, timeout_s=PATIENCE_S)
            found[target] = told(response)
        key = "/relto/v1/node-key/JPN"
        there = told(await client.request("GET", key, timeout_s=PATIENCE_S))
        with carried.down("JPN"):
            away = told(await client.request("GET", key, timeout_s=PATIENCE_S))
        assert away == there  # whether a third party is up does not show
        await client.close()
        return found

    found = run(scenario())
    assert {name: answer for name, answer in found.items() if answer != REFUSED} == {}
    assert not any(line.startswith("INFO") for line in carried.log("USA").splitlines())
    for party in PARTIES:
        assert "Traceback" not in carried.log(party)


def test_what_is_sent_again_is_answered_again_and_changes_nothing(carried: Nodes) -> None:
    async def scenario() -> Forged:
        kor = Party(carried, "KOR")
        client = kor.client("USA")
        forged = kor.item(b"again and again")
        sealed = await kor.seal(client, "USA", forged.hop())
        first = await post(client, "/relto/v1/hop", sealed)
        until(lambda: held(carried, "JPN", forged.item), "the item")
        for _ in range(40):
            assert told(await post(client, "/relto/v1/hop", sealed)) == told(first)
        await client.close()
        return forged

    with contextlib.ExitStack() as stack:
        stack.enter_context(carried.down("KOR"))  # its node takes no results meanwhile
        forged = run(scenario())
        [kor] = [p for p in carried.at("USA", "node", "status", "--json").json["peers"]
                 if p["party"] == "KOR"]  # fmt: skip
    for party in ("USA", "JPN"):
        accepted = [e for e in carried.journal(party)
                    if e["event"] == "accept" and e["item"] == forged.item]  # fmt: skip
        assert len(accepted) == 1
    assert kor["waiting"] < 40, "each repeat is owed another result: a peer can fill the disk"


def test_a_hub_cannot_alter_what_it_passes_on(carried: Nodes) -> None:
    """USA's keys, used against JPN: label, ciphertext, path, recipients, marks, the chain."""
    kor, usa = Party(carried, "KOR"), Party(carried, "USA")

    async def scenario() -> tuple[dict[str, tuple[int, bytes, str]], list[str]]:
        client = usa.client("JPN")
        good = usa.pass_on(kor.item(b"passed on"))
        label = dict(good.manifest.label)
        key = streams.KEY_BYTES * b"k"
        other = streams.encrypt(key, pad(Payload(
            {"title": "other", "media_type": "text/plain"}, b"other").encode()))  # fmt: skip
        ours = replace(good, signers=(usa.node, kor.node, usa.node))
        lone = replace(good, releases=good.releases[1:], signers=(kor.node, usa.node))
        messages = {
            "label": ours.with_manifest(label={**label, "about": []}).hop(),
            "recipients": ours.with_manifest(label={**label, "releasable_to": ["JPN"]}).hop(),
            "label and chain": replace(
                ours.with_manifest(label={**label, "about": []}), signers=(usa.node,) * 3
            ).hop(),
            "ciphertext": good.hop(ciphertexts={good.item: other}, keys={good.item: key}),
            "ciphertext and key": good.hop(ciphertexts={good.item: other}),
            "path of the originator": replace(good, releases=(
                replace(good.releases[0], to="USA", path=("KOR", "USA"),
                        legs=good.releases[0].legs[:1]), good.releases[1])).hop(),
            "no chain": lone.with_release(prior=()).hop(),
            "a chain that it does not show": lone.hop(),
        }  # fmt: skip
        # Only one letter of the manifest, under KOR's old signature.
        envelopes = good.hop().records
        forged_payload = envelopes[0].payload.replace(b'"PRK"', b'"KRP"')
        messages["signed bytes"] = good.hop(
            records=(replace(envelopes[0], payload=forged_payload), *envelopes[1:])
        )
        found = {}
        for name, message in messages.items():
            found[name] = told(await hop(usa, client, "JPN", message))
        # What JPN can read but refuses by its own decision it refuses by a signed record.
        refused = []
        last = good.releases[-1]
        changed: tuple[dict[str, Any], ...] = (
            {"legs": (replace(last.legs[0], mark="JPN:GOKUHI"),)},
            {"legs": (replace(last.legs[0], protected_by="carried"),)},
            {"basis": {good.item: "carried/1"}},
            {"agreements": {"carried": "0" * 64}},
        )
        for changes in changed:
            false = good.with_release(**changes)
            response = await hop(usa, client, "JPN", false.hop())
            assert response.status in (200, 400), changes
            refused.append(false.release)
        await client.close()
        return found, refused

    with carried.down("USA"):
        found, releases = run(scenario())
        assert set(found.values()) == {REFUSED}, found
        taken = [e for e in carried.journal("JPN") if e["event"] == "accept"]
        assert {e["release"] for e in taken}.isdisjoint(releases)
    assert ARTICLE == "carried/4"


def test_a_hub_cannot_sign_the_destinations_receipt(carried: Nodes) -> None:
    usa = Party(carried, "USA")
    with carried.down("JPN"):
        item = carried.shared("KOR", b"kept until JPN has it", to="JPN", topic="passed")
        until(lambda: carried.way("KOR", item, "JPN")["state"] == "with-hub", "the hub")
        release = carried.show("KOR", item)["path"][0]["id"]
        at = carried.show("KOR", item)["path"][0]["at"]

        async def scenario() -> list[tuple[int, bytes, str]]:
            client = usa.client("KOR")
            certificates = Party(carried, "KOR").item().certificates.of([usa.certificate()])
            found = []
            for signer in (usa.node, usa.folder.signer("officer", usa.passphrase, "smith")):
                record = usa.sign(Receipt(item, "JPN", (release,), at), signer)
                message = (
                    Party(carried, "KOR")
                    .item()
                    .hop(records=(record,), certificates=certificates, keys={}, ciphertexts={})
                )
                found.append(told(await hop(usa, client, "KOR", message)))
            await client.close()
            return found

        carried.stop("USA")
        assert set(run(scenario())) == {REFUSED}
        assert carried.way("KOR", item, "JPN")["state"] == "with-hub"
        carried.start("USA")
    carried.wait_for("KOR", item, "JPN", "delivered", timeout_s=PATIENCE_S)


def test_a_body_over_the_limit_is_not_read(carried: Nodes) -> None:
    async def scenario() -> Response | None:
        client = Party(carried, "KOR").client("USA")
        try:
            return await post(client, "/relto/v1/hop", bytes(3 * 1024 * 1024))
        except LinkError:
            return None  # the node hung up while we still sent
        finally:
            await client.close()

    response = run(scenario())
    assert response is None or response.status == 413


def test_ranges_are_of_the_own_release_and_within_its_size(carried: Nodes) -> None:
    kor, jpn = Party(carried, "KOR"), Party(carried, "JPN")
    large = kor.item(random.Random(SEED).randbytes(200_000))

    async def scenario() -> None:
        client, other = kor.client("USA"), jpn.client("USA")
        assert (await hop(kor, client, "USA", large.hop())).body == (
            b'{"parts":[{"have":0,"status":"accepted"}]}'
        )
        target = f"/relto/v1/ciphertext/{large.release}"
        size = len(large.ciphertext)
        for who, data, offset in [
            (other, large.ciphertext, 0),  # somebody else's release, though the bytes are right
            (client, large.ciphertext + b"!", 0),
            (client, b"!", size),
            (client, b"", 0),
        ]:
            assert told(await post(who, target, data, f"offset={offset}")) == REFUSED
        gap = await post(client, target, b"!", f"offset={size - 1}")
        assert gap.body == b'{"have":0,"status":"accepted"}'  # what leaves a gap is not kept
        wrong = await post(client, target, bytes(size), "offset=0")
        assert told(wrong) == REFUSED  # not what the manifest states: from the beginning
        assert not held(carried, "USA", large.item) or (
            carried.show("USA", large.item)["state"] == "receiving"
        )
        assert (await post(client, target, large.ciphertext, "offset=0")).status == 200
        assert told(await post(client, target, bytes(10), "offset=0")) == REFUSED
        await client.close()
        await other.close()

    run(scenario())
    until(lambda: held(carried, "JPN", large.item), "the large item")
    until(lambda: carried.show("JPN", large.item)["state"] == "received", "all of it")


def test_who_writes_over_a_range_while_it_is_checked_changes_nothing(carried: Nodes) -> None:
    kor = Party(carried, "KOR")

    async def scenario(large: Forged) -> None:
        client = kor.client("USA", connections_max=8)
        await hop(kor, client, "USA", large.hop())
        target = f"/relto/v1/ciphertext/{large.release}"
        half = len(large.ciphertext) // 2
        await post(client, target, large.ciphertext[:half], "offset=0")
        await asyncio.gather(
            post(client, target, large.ciphertext[half:], f"offset={half}"),
            *(post(client, target, b"overwritten", "offset=0") for _ in range(6)),
        )
        if carried.show("USA", large.item)["state"] == "receiving":
            await post(client, target, large.ciphertext, "offset=0")
        await client.close()

    for n in range(4):
        large = kor.item(random.Random(SEED + n).randbytes(900_000))
        run(scenario(large))
        until(lambda large=large: carried.show("USA", large.item)["state"] == "received", "it")  # type: ignore[misc]
        assert carried.content("USA", large.item)


def test_a_certificate_that_a_sender_slips_in_vouches_for_nothing(carried: Nodes) -> None:
    """KOR adds a signature in JPN's name with a certificate of its own making for JPN's key."""
    kor, jpn, usa = (Party(carried, party) for party in ("KOR", "JPN", "USA"))
    ca, ca_key = kor.folder.certificate("ca"), kor.ca_key()
    false = []
    for party in (jpn, usa):
        theirs = party.folder.certificate("node").public_key()
        assert isinstance(theirs, Ed25519PublicKey)
        made = issue(ca=ca, ca_key=ca_key, now=clock.now(), public_key=theirs, role="node")
        false.append(made.public_bytes(Encoding.DER))
    forged = kor.item(b"poisoned")
    message = forged.hop()
    manifest = message.records[0]
    extra = tuple(Signature(p.node.keyid, bytes(64)) for p in (jpn, usa))
    message = forged.hop(
        records=(replace(manifest, signatures=(*manifest.signatures, *extra)), message.records[1]),
        certificates=forged.certificates.of([kor.certificate(), *false]),
    )

    async def scenario() -> Response:
        client = kor.client("USA")
        response = await hop(kor, client, "USA", message)
        await client.close()
        return response

    assert run(scenario()).status == 200  # and then it goes its way like any other
    until(lambda: held(carried, "JPN", forged.item), "the item at JPN")
    until(lambda: len(carried.show("USA", forged.item)["answers"]) == 2, "both receipts")
    assert all(a["signed_by"] for a in carried.show("USA", forged.item)["answers"])


# Somebody at the machine


def test_the_socket_is_for_the_nodes_own_user_alone(carried: Nodes) -> None:
    for party in PARTIES:
        found = (carried.node(party) / "node.sock").lstat()
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o600
        for path, _ in carried.files_of(party):
            if "store" in path.parts:
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert stat.S_IMODE((carried.node(party) / "store").stat().st_mode) == 0o700


def test_nonsense_on_the_socket_gets_an_answer_and_leaves_no_trace(carried: Nodes) -> None:
    for method, target, body in [
        ("GET", "/nothing", b""), ("GET", "/items?limit=x", b""), ("GET", "/journal?after=x", b""),
        ("GET", "/items?after=x", b""), ("POST", "/drafts", b""),
        ("POST", "/drafts", b"\x00\x00\x00\x02[]"),
        ("POST", "/drafts", b"\x00\x00\x00\x02{}"), ("POST", "/holds", b"{}"),
        ("POST", "/holds", b'{"hold":7}'), ("POST", "/clock", b"[]"),
        ("POST", "/holds/draft", b"{}"),
        ("POST", "/items/0000/offer", b"{}"), ("POST", "/reviews/0000/JPN/approve", b"{}"),
    ]:  # fmt: skip
        response = unix_request(
            carried.node("KOR") / "node.sock", method, target, body, timeout_s=PATIENCE_S
        )
        assert response.status == 409, (method, target, body, response)
    assert "Traceback" not in carried.log("KOR")


def test_what_was_changed_on_the_disk_is_never_served(carried: Nodes) -> None:
    item = carried.shared("KOR", b"as it was", to="JPN", topic="passed")
    carried.wait_for("KOR", item, "JPN", "delivered", timeout_s=PATIENCE_S)
    carried.stop("JPN")
    file = carried.node("JPN") / "store" / "relto.db"
    whole = file.read_bytes()
    try:
        with contextlib.closing(sqlite3.connect(file)) as database:
            [(body,)] = database.execute(
                "SELECT body FROM documents WHERE kind = 'ciphertext' AND key = ?", (item,)
            )
            changed = bytes([body[0] ^ 1]) + body[1:]
            database.execute(
                "UPDATE documents SET body = ? WHERE kind = 'ciphertext' AND key = ?",
                (changed, item),
            )
            database.commit()
        with contextlib.suppress(RuntimeError):  # it may refuse to start at all
            carried.start("JPN")
            outcome = carried.at("JPN", "item", "get", item, check=False)
            assert (outcome.code, outcome.out) == (2, "")
        until(lambda: "damaged" in carried.log("JPN"), "that the log says so")
    finally:
        if "JPN" in carried.processes:
            carried.kill("JPN")
        for path in file.parent.glob("relto.db*"):
            path.unlink()
        file.write_bytes(whole)
        file.chmod(0o600)
        carried.start("JPN")
    assert carried.content("JPN", item) == b"as it was"
