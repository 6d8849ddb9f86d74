"""How many items of 4 KiB a second three nodes carry, all durable and receipted.

Beside the ceiling: what the cryptography that no design can leave out costs on all cores of this
machine, with hop messages of many parts.
"""

import hashlib
import os
import time
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519

from bench.coalition import coalition
from relto import seal, streams
from relto.seal import HpkePrivateKey

ITEMS = int(os.environ.get("BENCH_ITEMS", "2000"))
CLIENTS = 8
PARTS = 16  # of a hop message, as a node sends them
PART_BYTES = 13_000
RESULT_BYTES = 2_500
# Each node signs what it states and verifies what others state; certificates are verified once.
SIGNATURES = {
    "Seoul": 2,
    "Washington": 2,
    "Tokyo": 1,
}  # manifest, release; receipt, release; receipt
VERIFICATIONS = {"Seoul": 2, "Washington": 3, "Tokyo": 3}
LOOPS = 200


def run() -> dict[str, Any]:
    """Items a second, end to end; `share` is the part of the ceiling that was reached."""
    with coalition() as nodes:
        used = {party: nodes.cpu_s(party) for party in nodes.processes}
        start = time.perf_counter()
        nodes.submit_many("KOR", "JPN", ITEMS, clients=CLIENTS)
        submitted_s = time.perf_counter() - start
        nodes.wait_until_idle()
        took_s = time.perf_counter() - start
        cpu = {p: (nodes.cpu_s(p) - used[p]) * 1000 / ITEMS for p in nodes.processes}
    cost_s = crypto_s()
    ceiling = (os.cpu_count() or 1) / cost_s
    return {
        "items": ITEMS,
        "items_per_s": ITEMS / took_s,
        "submitted_per_s": ITEMS / submitted_s,
        "ceiling_per_s": ceiling,
        "share": ITEMS / took_s / ceiling,
        "crypto_ms_per_item": cost_s * 1000,
        "cpu_ms_per_item": cpu,
    }


def crypto_s() -> float:
    """Seconds of one core for one item's necessary cryptography at all three nodes."""
    signer = ed25519.Ed25519PrivateKey.generate()
    public, record = signer.public_key(), os.urandom(700)
    signature = signer.sign(record)
    private = HpkePrivateKey(os.urandom(seal.SEED_BYTES))
    plaintext, key = os.urandom(4352), os.urandom(streams.KEY_BYTES)
    message, results = bytes(PARTS * PART_BYTES), bytes(PARTS * RESULT_BYTES)

    def item() -> None:
        hashlib.sha256(streams.encrypt(key, plaintext)).digest()
        for _ in range(sum(SIGNATURES.values())):
            signer.sign(record)
        for _ in range(sum(VERIFICATIONS.values())):
            public.verify(signature, record)
        for _ in range(2):  # Washington and Tokyo compare what came with the manifest
            hashlib.sha256(plaintext).digest()
        for _ in range(3):
            seal.wrap(key, os.urandom(seal.WRAP_NONCE_BYTES), key, b"payload")

    def messages() -> None:
        for data in (message, message, results, results, results):
            seal.open_sealed(seal.seal(data, private.public_key, b""), private, b"")

    return _best(item, LOOPS) + _best(messages, LOOPS // 20) / PARTS


def _best(work: Any, loops: int) -> float:
    """Seconds of one call, in the best of three runs."""
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(loops):
            work()
        best = min(best, (time.perf_counter() - start) / loops)
    return best


def table(figures: dict[str, Any]) -> str:
    cpu = ", ".join(f"{p} {ms:.1f}" for p, ms in figures["cpu_ms_per_item"].items())
    return "\n".join(
        [
            f"{figures['items']:,} items of 4 KiB, Seoul - Washington - Tokyo, durable, receipted",
            f"  relto     {figures['items_per_s']:>8,.0f} a second"
            f" ({figures['submitted_per_s']:,.0f} a second while they were submitted)",
            f"  ceiling   {figures['ceiling_per_s']:>8,.0f} a second on all cores:"
            f" {figures['crypto_ms_per_item']:.2f} ms an item for {sum(SIGNATURES.values())}"
            f" signatures, {sum(VERIFICATIONS.values())} verifications, 3 wraps, 1 encryption,"
            f" 5/{PARTS} sealed messages",
            f"  share     {figures['share']:>8.1%}; processor time an item, ms: {cpu}",
        ]
    )
