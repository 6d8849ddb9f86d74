"""What a node's operator watches, in the text format that Prometheus scrapes.

Counts, times and ids of parties, never contents; all of it for this node's operator alone (DESIGN
§6, rule 6: what one party may see of another is in no metric that somebody else reads). What the
store knows is read when it is asked for; what only passes by is counted as it is committed.
"""

import asyncio
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from cryptography import x509
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from relto.alarms import alarms
from relto.courier import Courier
from relto.instants import moment
from relto.items import Item
from relto.links import Request, Response, Server
from relto.node import LISTING_MAX, Node
from relto.ports import OutboxDepth, Reader
from relto.quotas import half_sent, kept_of
from relto.records import PRECEDENCES
from relto.sightings import Sightings

__all__ = ["Metrics", "Tallies"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
COMMIT_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
BY = {"decide": "decision", "blocked": "decision", "refuse": "node", "refused": "party"}
"""Journal events with codes of a refusal, and whose refusal it is."""


class Tallies:
    """What is counted as it happens, an observer of commits: entries count once durable."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # Entries of the commit under way, by job; the writer's thread's alone.
        self._waiting: list[list[Mapping[str, Any]]] = []
        self._commits = Histogram(
            "relto_commit_seconds", "Time that a commit took.", registry=self.registry,
            buckets=COMMIT_S,
        )  # fmt: skip
        self._jobs = Counter(
            "relto_commit_jobs", "Jobs that commits made durable.", registry=self.registry
        )
        self._failed = Counter(
            "relto_commits_shed", "Commits that a full or busy disk undid.", registry=self.registry
        )
        self._events = Counter(
            "relto_events", "Journal entries by event.", ["event"], registry=self.registry
        )
        self._refusals = Counter(
            "relto_refusals", "Refusals by code, and by whom.",
            ["by", "code"], registry=self.registry,
        )  # fmt: skip
        self._deliveries = Counter(
            "relto_deliveries", "Receipts that came, by the party that has the item.", ["party"],
            registry=self.registry,
        )  # fmt: skip

    def entry(self, entry: Mapping[str, Any]) -> None:
        """An entry was written to the journal, in a transaction that is not yet durable."""
        self._waiting[-1].append(entry)

    def job_begins(self) -> None:
        self._waiting.append([])

    def shed(self) -> None:
        self._waiting = []
        self._failed.inc()

    def committed(self, kept: Sequence[bool], seconds: float) -> None:
        waiting, self._waiting = self._waiting, []
        self._commits.observe(seconds)
        self._jobs.inc(kept.count(True))
        durable = [
            e for entries, is_kept in zip(waiting, kept, strict=True) if is_kept for e in entries
        ]
        for entry in durable:
            event = entry["event"]
            self._events.labels(event).inc()
            if event == "delivered":
                self._deliveries.labels(entry["party"]).inc()
            for code in entry.get("codes", ()) if event in BY else ():
                self._refusals.labels(BY[event], code).inc()


class Metrics(Collector):
    """All metrics of a node. `handle` answers a scraper."""

    def __init__(
        self,
        tallies: Tallies,
        node: Node,
        couriers: Mapping[str, Courier],
        sightings: Sightings,
        server: Server,
        certificates: Mapping[str, x509.Certificate],
    ) -> None:
        """`server` is the one for peers; `certificates` are this node's own, by role."""
        self._tallies = tallies
        self._node = node
        self._couriers = couriers
        self._sightings = sightings
        self._server = server
        self._certificates = dict(certificates)
        tallies.registry.register(self)

    async def handle(self, request: Request) -> Response:
        """The answer to a scraper."""
        if (request.method, request.path) != ("GET", "/metrics"):
            return Response(404, b"the metrics are at /metrics\n", "text/plain")
        registry = self._tallies.registry
        return Response(200, await asyncio.to_thread(generate_latest, registry), CONTENT_TYPE)

    def describe(self) -> Iterable[Metric]:
        return ()  # registering does not read the store

    def collect(self) -> Iterator[Metric]:
        now = self._node.clock.now()
        with self._node.store.read() as reader:
            yield from self._outbox(reader, now)
            yield from self._items(reader)
            yield from self._quotas(reader)
            hpke = [r.rank for r in reader.listing("hpke-key", limit=LISTING_MAX)]
        yield from self._machine()
        yield from self._keys(now, hpke)
        yield from self._peers()

    def _outbox(self, reader: Reader, now: datetime) -> Iterator[Metric]:
        depth = _gauge("relto_outbox_messages", "Messages owed to a peer.", "peer", "precedence")
        oldest = _gauge(
            "relto_outbox_oldest_seconds", "Age of the oldest message owed.", "peer", "precedence"
        )
        found = {(d.peer, d.precedence): d for d in reader.outbox_depths()}
        for peer in sorted({*self._couriers, *(peer for peer, _ in found)}):
            for index, precedence in enumerate(PRECEDENCES):
                each = found.get((peer, index))
                depth.add_metric([peer, precedence], each.count if each else 0)
                age_s = _age_s(reader, each, now) if each else 0.0
                oldest.add_metric([peer, precedence], age_s)
        yield from (depth, oldest)

    def _items(self, reader: Reader) -> Iterator[Metric]:
        items = _gauge("relto_items", "Items here by state.", "state")
        for state in ("made", "review", "received", "receiving", "passing", "refused"):
            items.add_metric([state], reader.count("item", state))
        yield items
        late = _gauge(
            "relto_alarms", "Releases not handled in their precedence's time.", "precedence"
        )
        raised = [alarm.precedence for alarm in alarms(reader)]
        for precedence in PRECEDENCES:
            late.add_metric([precedence], raised.count(precedence))
        yield late
        behind = self._node.behind not in ("", "new")
        yield _one("relto_store_behind", "1 while the store is older than peers saw it.", behind)
        twin = bool(self._node.twin)
        yield _one("relto_twin_noticed", "1 if another node runs with our keys.", twin)
        reviews = reader.count("review", "waiting")
        yield _one("relto_reviews_waiting", "Releases that wait for officers.", reviews)
        yield _one("relto_holds", "Parties on hold.", len(self._node.held_to(reader)))
        entries = reader.journal_head()[0]
        yield _one("relto_journal_entries", "Entries of the journal, ever.", entries)

    def _quotas(self, reader: Reader) -> Iterator[Metric]:
        items = _gauge("relto_peer_kept_items", "Releases kept of a peer.", "peer")
        size = _gauge("relto_peer_kept_bytes", "Bytes kept of a peer.", "peer")
        half = _gauge("relto_peer_half_sent", "Ciphertexts half-sent by a peer.", "peer")
        for peer in sorted(self._couriers):
            kept = kept_of(reader, peer)
            items.add_metric([peer], kept.items)
            size.add_metric([peer], kept.size_bytes)
            half.add_metric([peer], len(half_sent(reader, peer)))
        reached = CounterMetricFamily(
            "relto_peer_limits_reached", "Times that a peer reached a limit.",
            labels=("peer", "limit"),
        )  # fmt: skip
        for (peer, limit), count in sorted(self._node.quotas.reached.items()):
            reached.add_metric([peer, limit], count)
        yield from (items, size, half, reached)

    def _machine(self) -> Iterator[Metric]:
        disk = os.statvfs(self._node.config.store)
        free = disk.f_bavail * disk.f_frsize
        held = self._node.store.ballast_held
        yield _one("relto_disk_free_bytes", "Room on the store's disk.", free)
        yield _one("relto_ballast_held", "1 while the reserve of disk space is in place.", held)
        waiting = self._node.writer.jobs_waiting
        yield _one("relto_commit_queue_jobs", "Jobs that wait for a commit.", waiting)
        refused = CounterMetricFamily(
            "relto_handshakes_refused", "Connections hung up on before a TLS handshake."
        )
        refused.add_metric([], self._server.handshakes_refused)
        yield refused

    def _keys(self, now: datetime, hpke: list[str]) -> Iterator[Metric]:
        """Certificates end by system time, the HPKE key by the node's clock."""
        left = _gauge("relto_key_expiry_seconds", "Time until a key's end.", "key")
        system_now = self._node.clock.system_now()
        for role, certificate in sorted(self._certificates.items()):
            ends = certificate.not_valid_after_utc
            left.add_metric([role], (ends - system_now).total_seconds())
        if hpke:
            left.add_metric(["hpke"], (moment(max(hpke)) - now).total_seconds())
        yield left

    def _peers(self) -> Iterator[Metric]:
        up = _gauge("relto_link_up", "1 if the peer was reached when last called.", "peer")
        ends = _gauge(
            "relto_peer_certificate_expiry_seconds", "Time until its TLS certificate ends.", "peer"
        )
        offset = _gauge("relto_clock_offset_seconds", "How far its clock is ahead of ours.", "peer")
        differ = _gauge(
            "relto_agreements_different", "Shared agreements that it holds otherwise.", "peer"
        )
        now = self._node.clock.system_now()
        for peer, courier in sorted(self._couriers.items()):
            seen = self._sightings.latest.get(peer)
            if seen is not None or courier.calls.error:
                reached = not courier.calls.error and seen is not None and not seen.error
                up.add_metric([peer], reached)
            if seen is not None and seen.certificate_ends is not None:
                left = moment(seen.certificate_ends) - now
                ends.add_metric([peer], left.total_seconds())
            if seen is not None and seen.offset_s is not None:
                offset.add_metric([peer], seen.offset_s)
            if seen is not None and seen.differences is not None:
                differ.add_metric([peer], len(seen.differences))
        yield from (up, ends, offset, differ)


def _age_s(reader: Reader, depth: OutboxDepth, now: datetime) -> float:
    """How long the oldest row has waited: since its item's way to that party began."""
    rows = reader.outbox_rows(depth.peer, depth.first - 1, 1)
    body = reader.get("item", rows[0].subject) if rows else None
    if body is None:
        return 0.0
    item = Item.decode(body)
    since = [o.since for o in item.outgoing if o.outbox == depth.first]
    since += [i.since for i in item.incoming] if not since else []  # a receipt that is owed
    return max(0.0, (now - moment(min(since, default=item.at))).total_seconds())


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=labels)


def _one(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)
