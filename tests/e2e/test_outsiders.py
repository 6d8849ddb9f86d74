"""Who comes to a node without the right to: what he is told is the same, whatever he asks."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from e2e.nodes import Nodes, until
from relto.hop import Hop, seal_hop
from relto.keys import read_passphrase
from relto.links import Client, KeyFile, LinkError, Response, client_context
from relto.records import NodeKey, decode_record
from relto.seal import HpkePrivateKey, HpkePublicKey

REFUSED = (400, b'{"status":"refused"}')


def called(
    nodes: Nodes,
    caller: str,
    callee: str,
    talk: Callable[[Client], Awaitable[list[Response]]],
    role: str = "tls",
    name: str | None = None,
) -> list[Response]:
    """What a node answers to calls made with a party's own certificate of some role."""
    folder = nodes.keys(caller)
    stem = folder / "officers" / name if name else folder / role
    passphrase = read_passphrase(nodes.passphrase_file)
    context = client_context(
        Path(f"{stem}.crt"),
        KeyFile(Path(f"{stem}.key"), passphrase.reveal),
        [(nodes.keys(callee) / "ca.crt").read_bytes()],
    )

    async def call() -> list[Response]:
        client = Client("127.0.0.1", nodes.ports[callee], context, check_peer=lambda der: None)
        try:
            return await talk(client)
        finally:
            await client.close()

    return asyncio.run(call())


async def _node_key(client: Client, party: str) -> HpkePublicKey:
    response = await client.request("GET", f"/relto/v1/node-key/{party}", timeout_s=5)
    record = decode_record(Hop.decode(response.body).records[0], NodeKey)
    return HpkePublicKey(bytes.fromhex(record.key))


def test_a_party_without_a_line_to_us_gets_no_answer(tisa: Nodes) -> None:
    async def ask(client: Client) -> list[Response]:
        return [await client.request("GET", "/relto/v1/node-key/JPN", timeout_s=5)]

    with pytest.raises(LinkError):
        called(tisa, "KOR", "JPN", ask)


@pytest.mark.parametrize("name", ["kim"])
def test_an_officers_certificate_is_no_nodes(tisa: Nodes, name: str) -> None:
    async def ask(client: Client) -> list[Response]:
        return [await client.request("GET", "/relto/v1/node-key/USA", timeout_s=5)]

    with pytest.raises(LinkError):
        called(tisa, "KOR", "USA", ask, name=name)


def test_without_a_certificate_or_with_an_older_tls_nobody_comes_in(tisa: Nodes) -> None:
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.maximum_version = version
        with socket.create_connection(("127.0.0.1", tisa.ports["USA"]), timeout=5) as raw:
            assert _hears(context, raw) == b""


def _hears(context: ssl.SSLContext, raw: socket.socket) -> bytes:
    """What a node says to a request over this line."""
    try:
        with context.wrap_socket(raw) as tls:
            tls.sendall(b"GET /relto/v1/node-key/USA HTTP/1.1\r\nhost: x\r\n\r\n")
            return tls.recv(4096)
    except (ssl.SSLError, ConnectionError):
        return b""


def test_every_refusal_of_a_party_is_the_same_to_the_byte(tisa: Nodes) -> None:
    """Absent, another's, malformed, forged, wrongly addressed: one answer (DESIGN §6, rule 7)."""
    theirs = tisa.shared("JPN", b"of Tokyo alone", to="USA")
    tisa.approve("JPN", theirs, "USA", "sato")
    until(lambda: tisa.way("JPN", theirs, "USA")["state"] == "delivered", "delivered")
    release = tisa.show("JPN", theirs)["path"][0]["id"]

    async def ask(client: Client) -> list[Response]:
        key = await _node_key(client, "USA")
        answer = await client.request("GET", "/relto/v1/node-key/USA", timeout_s=5)
        parts = [Hop.decode(answer.body).encode()]
        sealed = [
            seal_hop(parts, sender="KOR", recipient="USA", key=key),  # no such message
            seal_hop(parts, sender="JPN", recipient="USA", key=key),  # another's name
            seal_hop(parts, sender="KOR", recipient="JPN", key=key),  # another's address
            bytes.fromhex(key.key_id) + bytes(2000),
        ]
        posts = [("POST", "/relto/v1/hop", body, "") for body in (*sealed, b"", b"short")]
        others = [
            ("GET", "/relto/v1/node-key/XYZ", b"", ""),
            ("GET", f"/relto/v1/items/{theirs}", b"", ""),
            ("GET", "/relto/v1/items/" + "0" * 64, b"", ""),
            ("POST", f"/relto/v1/ciphertext/{release}", b"x", "offset=0"),
            ("POST", "/relto/v1/ciphertext/" + "0" * 64, b"x", "offset=0"),
            ("POST", f"/relto/v1/ciphertext/{release}", b"x", "offset=-1"),
            ("GET", "/status", b"", ""),
        ]
        return [
            await client.request(method, path, body, timeout_s=5, query=query)
            for method, path, body, query in (*posts, *others)
        ]

    answers = {(r.status, r.body) for r in called(tisa, "KOR", "USA", ask)}
    assert answers == {REFUSED}


def test_a_message_for_a_key_that_is_gone_is_told_so(tisa: Nodes) -> None:
    async def ask(client: Client) -> list[Response]:
        answer = await client.request("GET", "/relto/v1/node-key/USA", timeout_s=5)
        parts = [Hop.decode(answer.body).encode()]
        old = HpkePrivateKey(bytes(32)).public_key
        sealed = seal_hop(parts, sender="KOR", recipient="USA", key=old)
        return [await client.request("POST", "/relto/v1/hop", sealed, timeout_s=5)]

    [answer] = called(tisa, "KOR", "USA", ask)
    assert (answer.status, answer.body) == (409, b'{"status":"stale-key"}')


def test_a_store_that_was_edited_is_not_served(tisa: Nodes) -> None:
    """An item is given another id throughout the database: the node says so and ends."""
    item = tisa.shared("USA", b"kept in Washington", to="KOR")
    tisa.stop("USA")
    file = tisa.node("USA") / "store" / "relto.db"
    whole = file.read_bytes()
    other = item[:-1] + ("0" if item[-1] != "0" else "1")
    file.write_bytes(whole.replace(item.encode(), other.encode()))
    served = False
    try:
        tisa.start("USA")
        served = tisa.at("USA", "inbox", "--all", check=False).code == 0
    except RuntimeError as error:
        refusal = str(error)
    else:
        refusal = tisa.log("USA")
    finally:
        if "USA" in tisa.processes:
            tisa.kill("USA")
        file.write_bytes(whole)
        tisa.start("USA")
        tisa.set_clock("2015-03-02T01:00:00Z")
    assert not served
    assert "the store" in refusal
    assert item in {i["id"] for i in tisa.inbox("USA", "--all")}


def test_real_keys_do_not_serve_an_exercise_clock(tisa: Nodes, tmp_path: Path) -> None:
    made = tisa.run(
        "keys", "init", "--party", "KOR", "--out", str(tmp_path / "real"),
        "--passphrase-file", str(tisa.passphrase_file),
    )  # fmt: skip
    assert made.code == 0, made.err
    text = (tisa.node("KOR") / "node.toml").read_text()
    folder = tmp_path / "node"
    folder.mkdir()
    (folder / "node.toml").write_text(text.replace(str(tisa.keys("KOR")), str(tmp_path / "real")))
    outcome = tisa.run("node", "serve", str(folder), "--passphrase-file", str(tisa.passphrase_file))
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "EXERCISE certificates" in outcome.err
