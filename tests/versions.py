"""Writes down one of each kind of bytes that nodes send or keep, as this version makes them.

`python tests/versions.py > tests/data/versions/NAME.json` when a format gets a new major version:
the files of earlier versions stay, and every later version must read them.
"""

import base64
import json
import sys
from typing import Any

from relto.envelope import sign
from relto.hop import Hop, seal_hop
from relto.journals import first_line, last_line, row_line
from relto.links import Request
from relto.records import JournalHead
from relto.seal import HpkePrivateKey
from relto.trust import Certificates
from steps import consignment_hop
from world import OFFICERS, World, keys_of

SEED = bytes(range(32))


def text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


async def recorded(world: World) -> dict[str, Any]:
    """What an item from Seoul by way of Washington leaves behind there, and on the way."""
    item = await world.share("KOR", "KOR:III", "JPN", body=b"as the first version wrote it")
    await world.approve("KOR", item, "JPN")
    await world.settle()
    await world.approve("USA", item, "JPN")
    await world.settle()
    hub = world["USA"]
    kept = hub.item(item)
    node_key = Hop((hub.node.node_key(),), Certificates.of([hub.node.secrets.certificate]))
    release = kept.incoming[0].id
    asked = Request("GET", "/relto/v1/shared", f"epoch={'0' * 32}&after=0", b"", keys_of("KOR").tls)
    listed = await hub.peering.handle(asked)
    sealed = seal_hop(
        [consignment_hop().encode()], sender="KOR", recipient="USA",
        key=HpkePrivateKey(SEED).public_key,
    )  # fmt: skip
    rows = hub.store.state.journal
    head = JournalHead("USA", rows[-1].number, rows[-1].link.hex(), "2015-01-05T00:00:00Z")
    signed = sign(JournalHead.type(), head.encode(), [keys_of("USA").node.signer])
    lines = [first_line("USA"), *map(row_line, rows)]
    lines.append(last_line(signed, keys_of("USA").node.certificate))
    return {
        "cas": {party: text(keys_of(party).ca_der) for party in OFFICERS},
        "item": item,
        "release": release,
        "hop": text(sealed),
        "node-key": text(node_key.encode()),
        "list": text(listed.body),
        "item document": text(kept.encode()),
        "journal": b"".join(lines).decode(),
    }


def record() -> dict[str, Any]:
    with World("tisa") as world:
        return world.run(recorded(world))


if __name__ == "__main__":
    json.dump(record(), sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")
