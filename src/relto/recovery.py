"""A node whose store is behind: how it finds out, and takes back from peers what it has forgotten.

Before anything goes to a peer, the peer is asked for the records of ours that it has committed. One
that we signed and do not know proves that our store is older than what the peer saw; a peer cannot
make one up. What it gives back is verified as if it came for the first time, and settles what was
settled. Found later, while this process has all that it ever signed, it proves a twin: another
node with our identity.
"""

import asyncio
import hashlib
import hmac
import logging
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relto import canonical, streams
from relto.clauses import Share
from relto.consignments import Consignment
from relto.courier import Courier
from relto.errors import CallerError, PeerError, ReltoError, StoreBroken, why
from relto.events import Effects, Recover
from relto.hop import INLINE_BYTES_MAX, Hop, key_id_of, open_hop, open_key
from relto.links import LinkError
from relto.node import Node
from relto.ports import Answer, Row, Transaction
from relto.records import Receipt
from relto.recovering import is_known, verify_given_back
from relto.returning import ROUTINE
from relto.shared import PAGE_ROWS, START, SharedRecord
from relto.trust import Certificates

__all__ = ["MISSING_MAX", "Recovery"]

log = logging.getLogger("relto.recovery")

ASK_TIMEOUT_S = 30.0
RETRY_S_FIRST = 0.1
RETRY_S_MAX = 2.0
ASK_AGAIN_S = 60.0
AT_ONCE = 4  # releases that are asked for
BUSY_S = 0.25  # between two tries at a peer that says "later" of a range
BUSY_MAX = 40
LATER_S_FIRST = 0.25  # from one round of releases, of which a peer says "later", to the next
LATER_S_MAX = 4.0  # as long as others come; then it is asked again in `ASK_AGAIN_S`
GRACE_S = 5.0  # after a start, in which peers that were not asked yet are told to come back
PAGES_MAX = 10_000  # of one peer's list at a time
MISSING_MAX = 1_000  # of one peer's claims that it did not show; past it no more is asked for
LIST_BYTES_MAX = 256 * 1024
_HEX = re.compile(r"[0-9a-f]{64}\Z")
_EPOCH = re.compile(r"[0-9a-f]{32}\Z")


class _Later(PeerError):
    """The peer gives this one later: it has much to do, or its officers have stopped it."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a peer's list of our records. `after` is where the next begins."""

    epoch: str
    after: int
    more: bool
    records: list[SharedRecord]


class Recovery:
    """Asks the peers of one node, before its couriers start and now and then afterwards."""

    def __init__(self, node: Node, couriers: Mapping[str, Courier]) -> None:
        self.node = node
        self.couriers = couriers
        self._asked: set[str] = set()  # by this process, and all that they had was taken back
        self._late: set[str] = set()  # releases that turned up after that
        self._twins: set[str] = set()  # of these, those that were signed by our key
        self._started: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """See how the store is, before anything else is written to it."""

        def job(tx: Transaction) -> str:
            if not tx.journal_head()[0]:
                tx.set_meta("behind", b"new")
            return (tx.meta("behind") or b"").decode()

        self.node.behind = await self.node.submit(job)
        self.node.unasked = set(self.couriers)
        if self.node.behind and self.node.behind != "new":
            log.warning("behind", extra={"why": self.node.behind})

    def start(self) -> None:
        """Ask every peer, and start its courier once it has answered."""
        asyncio.get_running_loop().call_later(GRACE_S, self._end_grace)
        for courier in self.couriers.values():
            self.node.carriers[courier.peer] = courier
            self._tasks.append(asyncio.create_task(self._watch(courier)))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _end_grace(self) -> None:
        if not self.node.behind:
            self.node.unasked.clear()

    async def _watch(self, courier: Courier) -> None:
        wait_s = RETRY_S_FIRST
        while True:
            try:
                await self.ask(courier)
                if courier.peer not in self._started:
                    self._started.add(courier.peer)
                    if courier.calls.error:
                        log.info("link-up", extra={"peer": courier.peer})
                    courier.calls.error = ""
                    await courier.start()
                wait_s = ASK_AGAIN_S
            except StoreBroken as e:
                self.node.on_broken(e)
            except Exception as e:  # whatever one peer does, it is asked again
                fields = {"peer": courier.peer, "why": why(e)}
                if not isinstance(e, LinkError):
                    log.warning("asking-failed", extra=fields)
                elif not courier.calls.error:
                    log.warning("link-down", extra=fields)
                if courier.peer not in self._started:
                    courier.calls.error = why(e)
            await asyncio.sleep(wait_s)
            if wait_s < RETRY_S_MAX:
                wait_s = min(2 * wait_s, RETRY_S_MAX)

    # asking one peer

    async def ask(self, courier: Courier) -> None:
        """Everything that the peer has of ours and we do not, as far as it shows it."""
        for _ in range(PAGES_MAX):
            if not await self._ask_page(courier):
                break
        await self._done(courier.peer)

    async def _ask_page(self, courier: Courier) -> bool:
        """One page of the peer's list, and what we lack of it; whether there are more."""
        peer = courier.peer
        page = await self._page(courier)
        if page is None:
            return False
        unknown = await asyncio.to_thread(self._unknown, peer, page.records)
        await self.node.submit(lambda tx: self._note(tx, peer, unknown, page), ROUTINE)
        if peer in self._asked:
            self._late |= {record.release for record in unknown}
        await self._take_back(courier)
        return page.more

    async def _page(self, courier: Courier) -> Page | None:
        """The next page of the peer's list; None if it keeps none, or tells too much to believe."""
        with self.node.store.read() as reader:
            cursor = (reader.meta(f"asked:{courier.peer}") or b"").decode()
            if reader.count("missing", courier.peer) >= MISSING_MAX:
                log.error(
                    "not-given-back", extra={"peer": courier.peer, "why": "too much is missing"}
                )
                return None
        epoch, _, after = cursor.partition(":")
        query = f"epoch={epoch or START.link}&after={after or '0'}"
        response = await courier.calls.link.request(
            "GET", "/relto/v1/shared", timeout_s=ASK_TIMEOUT_S, query=query
        )
        if response.status == 503:
            raise LinkError(f"{courier.peer} answers 503; it is asked again")
        if response.status != 200:
            log.info("keeps-no-list", extra={"peer": courier.peer})
            return None
        return _decode_page(response.body)

    def _unknown(self, peer: str, records: list[SharedRecord]) -> list[SharedRecord]:
        with self.node.store.read() as reader:
            found = []
            for record in records:
                known = is_known(self.node.read_item(reader, record.item), record.record)
                if not known and reader.get("missing", f"{peer}:{record.release}") is None:
                    found.append(record)
            return found

    def _note(self, tx: Transaction, peer: str, unknown: list[SharedRecord], page: Page) -> None:
        for record in unknown:
            tx.put("missing", f"{peer}:{record.release}", record.item.encode(), state=peer)
        tx.set_meta(f"asked:{peer}", f"{page.epoch}:{page.after}".encode())

    async def _take_back(self, courier: Courier) -> None:
        """What the peer has and we lack. What it does not show stays on the list.

        Nor does what it gives later keep back the rest: it is asked for again after that, as long
        as anything comes, and a few times more.
        """
        wait_s = LATER_S_FIRST
        while wait_s <= LATER_S_MAX:
            taken, later = await self._take_round(courier)
            if not later:
                return
            if taken:
                wait_s = LATER_S_FIRST
            await asyncio.sleep(wait_s)
            wait_s *= 2
        why_not = f'it says "later" of {later} releases'
        log.warning("not-given-back", extra={"peer": courier.peer, "why": why_not})

    async def _take_round(self, courier: Courier) -> tuple[int, int]:
        """Ask for each release once: how many came, and of how many the peer says "later"."""
        peer = courier.peer
        after = ""
        came: Counter[str] = Counter()
        while True:
            with self.node.store.read() as reader:
                rows = reader.listing("missing", state=peer, after=after, limit=PAGE_ROWS)
            for start in range(0, len(rows), AT_ONCE):
                group = rows[start : start + AT_ONCE]
                takes = [self._take_or_tell(courier, row) for row in group]
                for done in await asyncio.gather(*takes, return_exceptions=True):
                    if isinstance(done, BaseException):  # the link, or worse: not only of this one
                        raise done
                    came[done] += 1
            if len(rows) < PAGE_ROWS:
                return came["taken"], came["later"]
            after = rows[-1].cursor

    async def _take_or_tell(self, courier: Courier, row: Row) -> str:
        """Take one release back: "taken", "later", or "not" for one that stays on the list."""
        release = row.key.partition(":")[2]
        if release in self._twins:
            return "not"
        try:
            await self._take(courier, row.body.decode(), release)
        except _Later:
            return "later"
        except (PeerError, CallerError) as e:
            fields = {"peer": courier.peer, "release": release, "why": str(e)}
            log.warning("not-given-back", extra=fields)
            return "not"
        return "taken"

    async def _take(self, courier: Courier, item_id: str, release: str) -> None:
        node, peer = self.node, courier.peer
        target = f"/relto/v1/give-back/{item_id}/{release}"
        answer = await self._post(courier, target, tries=1)
        private = node.hpke_key(key_id_of(answer.body))
        if private is None:
            raise PeerError("sealed to a key that we do not have")
        parts = open_hop(answer.body, sender=peer, recipient=node.party, key=private)
        await node.turns.wait(ROUTINE)
        if len(parts) != 1:
            raise PeerError("more than one release was given back at once")
        consignment, results, vouched = verify_given_back(parts[0], node.trust)
        if (consignment.item, consignment.release_envelope.record_id) != (item_id, release):
            raise PeerError("another release than was asked for")
        ours = consignment.release.sender == node.party
        if not ours and not any(record.party == node.party for _, record in results):
            raise PeerError("nothing in it was signed here")
        if release in self._late:
            await self._tell_of_twin(peer, release)
            return
        held = not ours and any(
            isinstance(record, Receipt) and record.party == node.party for _, record in results
        )
        key = self._payload_key(consignment)
        with node.store.read() as reader:
            item = node.read_item(reader, item_id)
        receipted = any(isinstance(record, Receipt) for _, record in results)
        own = ours and consignment.manifest.maker == node.party and receipted
        lacks_key = key is None and (item is None or item.key is None)
        if lacks_key and (own or (held and self._reads(consignment))):
            key = await self._key_past_hub(courier, consignment)
        stored, ciphertext = await self._contents(courier, target, consignment, wanted=held or own)
        wrapped = None if key is None else node.wrap(key, f"payload/{item_id}")
        why = "lost" if node.behind == "new" else "older"
        event = Recover(peer, consignment, results, vouched, wrapped, stored)

        def job(tx: Transaction) -> Effects:
            effects = node.apply(tx, item_id, event)
            if effects.item is not None and effects.item.stored == stored:
                if stored == "row":
                    tx.put("ciphertext", item_id, ciphertext)
                elif stored:
                    tx.put("blob", stored, item_id.encode())
            tx.delete("receiving", release)
            tx.delete("missing", f"{peer}:{release}")
            if ours:
                node.raise_seq(tx, consignment.release.seq)
            if (tx.meta("behind") or b"new") == b"new":  # the first to find out
                tx.set_meta("behind", why.encode())
                entry = {"event": "behind", "why": why, "peer": peer, "release": release}
                node.journal(tx, entry, node.clock.instant())
            return effects

        try:
            effects: Effects = await node.submit(job, ROUTINE)
        except ReltoError:
            await node.contents.drop(stored)
            raise
        if effects.item is not None and effects.item.stored != stored:
            await node.contents.drop(stored)
        if node.behind in ("", "new"):
            node.behind = why
            node.unasked = set(self.couriers) - self._asked
            log.error("behind", extra={"peer": peer, "release": release, "why": why})
        node.follow(effects)

    async def _post(
        self, courier: Courier, target: str, query: str = "", *, tries: int = BUSY_MAX
    ) -> Answer:
        certificates = Certificates.of([self.node.secrets.certificate])
        body = Hop((self.node.node_key(),), certificates).encode()
        for left in reversed(range(tries)):
            answer = await courier.calls.link.request(
                "POST", target, body, timeout_s=ASK_TIMEOUT_S, query=query
            )
            if answer.status != 503:
                break
            if left:
                await asyncio.sleep(BUSY_S)
        else:
            raise _Later(f"{courier.peer} answers 503")
        if answer.status != 200:
            raise PeerError(f"{courier.peer} answers {answer.status}")
        return answer

    def _payload_key(self, consignment: Consignment) -> bytes | None:
        """The payload key, which the manifest commits to; None where none came that opens."""
        key = consignment.key
        if key is None and consignment.sealed_key is not None and consignment.prior:
            private = self.node.hpke_key(key_id_of(consignment.sealed_key))
            if private is not None:
                key = open_key(
                    consignment.sealed_key,
                    sender=consignment.prior[-1].sender,
                    recipient=self.node.party,
                    item=consignment.item,
                    key=private,
                )
        if key is None:
            return None
        self._require_committed(key, consignment)
        return key

    async def _key_past_hub(self, courier: Courier, consignment: Consignment) -> bytes:
        """The payload key from the other end of the path, sealed to our key past the hub."""
        release, item = consignment.release, consignment.item
        if release.sender == self.node.party:
            end = release.to
        else:
            end = consignment.prior[-1].sender if consignment.prior else ""
        if not end or end == courier.peer:
            raise PeerError("given back without the payload key")
        answer = await self._post(courier, f"/relto/v1/seal-again/{item}/{end}", tries=1)
        private = self.node.hpke_key(key_id_of(answer.body))
        if private is None:
            raise PeerError("the payload key is sealed to a key that we do not have")
        key = open_key(answer.body, sender=end, recipient=self.node.party, item=item, key=private)
        self._require_committed(key, consignment)
        return key

    def _require_committed(self, key: bytes, consignment: Consignment) -> None:
        commitment = bytes.fromhex(consignment.manifest.commitment)
        if len(key) != streams.KEY_BYTES or not hmac.compare_digest(
            streams.commitment(key), commitment
        ):
            raise PeerError("the payload key is not the one that the manifest commits to")

    def _reads(self, consignment: Consignment) -> bool:
        release = consignment.release
        clause = self.node.engine.regime.clause(next(iter(release.basis.values())))
        if release.to == self.node.party or clause is None:
            return True
        return not isinstance(clause.body, Share) or clause.body.via_reads

    async def _contents(
        self, courier: Courier, target: str, consignment: Consignment, *, wanted: bool
    ) -> tuple[str, bytes]:
        """Where the ciphertext lies, durable and with the manifest's digest; "" for not needed."""
        store = self.node.store
        with store.read() as reader:
            item = self.node.read_item(reader, consignment.item)
        if not wanted or (item is not None and item.stored):
            return "", b""
        size, digest = consignment.manifest.ciphertext_bytes, hashlib.sha256()
        if size > self.node.ciphertext_bytes_max:
            raise PeerError("larger than this node takes (limits.payload_bytes_max)")
        if size <= INLINE_BYTES_MAX:
            data = consignment.ciphertext or b""
            digest.update(data)
            name = "row"
        else:
            data, name, offset = b"", consignment.release_envelope.record_id, 0
            while offset < size:
                part = (await self._post(courier, target, f"offset={offset}")).body
                if not part or offset + len(part) > size:
                    raise PeerError("a range of another size than was asked for")
                await asyncio.to_thread(store.blob_append, name, offset, part)
                digest.update(part)
                offset += len(part)
            await asyncio.to_thread(store.blob_sync, name)
        if digest.hexdigest() != consignment.manifest.ciphertext_sha256:
            await self.node.contents.drop(name)
            raise PeerError("the ciphertext is not the one that the manifest states")
        return name, data

    # how it ends

    async def _done(self, peer: str) -> None:
        """The peer has told all; once all peers have, the store is no longer behind."""
        self._asked.add(peer)
        self.node.unasked.discard(peer)
        if not self.node.behind or self.node.unasked:
            return
        why = self.node.behind

        def job(tx: Transaction) -> None:
            tx.set_meta("behind", b"")
            self.node.journal(tx, {"event": "caught-up", "why": why}, self.node.clock.instant())

        await self.node.submit(job)
        self.node.behind = ""
        if why != "new":
            log.warning("caught-up", extra={"why": why})

    async def _tell_of_twin(self, peer: str, release: str) -> None:
        """Another node signs in our name, by our keys. People must act; nothing is believed of it.

        The node goes on: else whoever stole a key could silence it with one message.
        """
        self.node.twin = peer
        self._twins.add(release)
        entry = {"event": "twin", "peer": peer, "release": release}
        await self.node.submit(lambda tx: self.node.journal(tx, entry, self.node.clock.instant()))
        log.critical("twin", extra={"peer": peer, "release": release})


def _decode_page(data: bytes) -> Page:
    value = canonical.decode(data, size_bytes_max=LIST_BYTES_MAX)
    if not isinstance(value, dict) or value.keys() != {"epoch", "after", "more", "records"}:
        raise PeerError("a list of records has other keys than it should")
    epoch, after, more, records = (value[k] for k in ("epoch", "after", "more", "records"))
    if (
        not isinstance(epoch, str)
        or not _EPOCH.match(epoch)
        or type(after) is not int
        or not 0 <= after < 10**15
        or not isinstance(more, bool)
        or not isinstance(records, list)
        or len(records) > PAGE_ROWS
        or (more and not records)
    ):
        raise PeerError("a list of records is malformed")
    return Page(epoch, after, more, [_decode_record(each) for each in records])


def _decode_record(value: Any) -> SharedRecord:
    names = ("record", "item", "release")
    if not isinstance(value, dict) or value.keys() != set(names):
        raise PeerError("an entry of a list of records has other keys than it should")
    found = [value[name] for name in names]
    if not all(isinstance(each, str) and _HEX.match(each) for each in found):
        raise PeerError("an entry of a list of records is malformed")
    return SharedRecord(*found)
