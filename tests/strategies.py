"""Random regimes, and questions that touch what is in them.

`random_regime` and `random_question` are plain functions of a seeded `random.Random`, cheap enough
for tens of thousands; the Hypothesis strategies draw only the seed.
"""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import tomli_w
from hypothesis import strategies as st

Regime = dict[str, Any]
Question = dict[str, Any]

EPOCH = datetime(2015, 1, 1, tzinfo=UTC)
DAYS = 24  # the timeline's length
KINDS = (
    "report",
    "assessment",
    "warning",
    "imagery",
    "rfi",
    "reply",
    "collection-request",
    "tearline",
    "capability",
)
PARTIES = ("AUS", "DEU", "FRA", "JPN", "KOR", "USA", "ZAF")
RUNGS = ("TS", "S", "C", "R", "U")
TOPICS = ("missile", "missile.launch", "missile.launch.icbm", "nuclear.test", "cyber.attack")
SUBJECTS = ("PRK", "IRN", "SYR")
ZONES = (UTC, UTC, timezone(timedelta(hours=9)), timezone(-timedelta(hours=5)))


def regimes() -> st.SearchStrategy[Regime]:
    """Valid regimes, shaped as `tomllib` returns them."""
    return st.integers(0, 2**32 - 1).map(lambda seed: random_regime(random.Random(seed)))


def questions(regime: Regime) -> st.SearchStrategy[Question]:
    """Questions to that regime: mostly well-formed, some with one thing wrong."""
    return st.integers(0, 2**32 - 1).map(lambda seed: random_question(random.Random(seed), regime))


def regime_files(regime: Regime) -> dict[str, bytes]:
    """The regime's files by their names in its folder; no timeline file where nothing happened."""
    tables = {"vocabulary.toml": regime["vocabulary"]}
    for party, scheme in regime["schemes"].items():
        tables[f"schemes/{party}.toml"] = scheme
    for agreement_id, agreement in regime["agreements"].items():
        tables[f"agreements/{agreement_id}.toml"] = agreement
    if regime["timeline"]["event"]:
        tables["timeline.toml"] = regime["timeline"]
    return {name: tomli_w.dumps(table).encode() for name, table in tables.items()}


# Regimes


def random_regime(rng: random.Random) -> Regime:
    parties = rng.sample(PARTIES, rng.choice((2, 3, 3, 3, 4, 4, 5)))
    schemes = {party: random_scheme(rng, party) for party in parties}
    vocabulary = {
        "topics": sorted(rng.sample(TOPICS, rng.randint(2, len(TOPICS)))),
        "subjects": rng.sample(SUBJECTS, rng.randint(1, len(SUBJECTS))),
    }
    ids = rng.sample([f"pact-{letter}-{rng.randint(1, 20)}" for letter in "abcde"], 5)
    ids = ids[: rng.choice((1, 2, 3, 3, 4, 4, 5, 5))]
    agreements: dict[str, Any] = {}
    for agreement_id in ids:
        agreements[agreement_id] = random_frame(rng, agreement_id, parties, agreements)
    for agreement in agreements.values():
        agreement["clause"] = random_clauses(rng, agreement, agreements, schemes, vocabulary)
    return {
        "schemes": schemes,
        "vocabulary": vocabulary,
        "agreements": agreements,
        "timeline": {"event": random_timeline(rng, ids)},
    }


def random_scheme(rng: random.Random, party: str) -> dict[str, Any]:
    first = rng.randint(0, 2)
    marks: list[dict[str, Any]] = [
        {"code": code, "banner": {"en": f"{party} {code}"}} for code in RUNGS[first : first + 3]
    ]
    if rng.random() < 0.4:
        position = rng.randrange(len(marks))
        rung = marks[position]["code"]
        beside = {"code": f"{rung}X", "banner": {"en": f"{party} {rung}X"}, "beside": rung}
        marks.insert(rng.randint(position + 1, len(marks)), beside)
    return {"party": party, "name": {"en": f"Ministry of {party}"}, "mark": marks}


def random_frame(
    rng: random.Random, agreement_id: str, parties: list[str], earlier: dict[str, Any]
) -> dict[str, Any]:
    """An agreement without its clauses; it rests only on earlier ones, so there is no cycle."""
    few = min(len(parties), rng.choice((2, 2, 3, 3, 3, 5)))
    own = sorted(rng.sample(parties, few))
    if earlier and rng.random() < 0.35:  # a second pact of the same parties: rival ways
        own = list(rng.choice(list(earlier.values()))["parties"])
    frame = {
        "format": "relto-agreement/1",
        "id": agreement_id,
        "kind": rng.choice(("agreement", "arrangement")),
        "parties": own,
        "depositary": rng.choice(own),
        "title": {"en": f"Pact {agreement_id}"},
    }
    if earlier and rng.random() < 0.3:
        frame["rests_on"] = rng.sample(list(earlier), rng.randint(1, min(2, len(earlier))))
    return frame


def random_clauses(
    rng: random.Random,
    agreement: dict[str, Any],
    agreements: dict[str, Any],
    schemes: dict[str, Any],
    vocabulary: dict[str, Any],
) -> list[dict[str, Any]]:
    bodies: list[dict[str, Any]] = []
    for _ in range(rng.choice((0, 1, 1, 2, 2, 3))):
        bodies.append({"share": random_share(rng, agreement, agreements, schemes, vocabulary)})
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2))):
        onward = random_onward(rng, agreement, agreements, schemes, vocabulary)
        if onward:
            bodies.append({"onward": onward})
    articles = rng.sample(("1", "2", "3", "4", "9", "10", "7(2)"), len(bodies))
    clauses = [{"article": article} | body for article, body in zip(articles, bodies, strict=True)]
    rows = random_rows(rng, agreement["parties"], schemes)
    cut = rng.randint(1, len(rows)) if rows and rng.random() < 0.3 else len(rows)
    for part in (rows[:cut], rows[cut:]):
        if part:
            clauses.append({"article": rng.choice(("5", "6", "4")), "equate": {"rows": part}})
    for _ in range(rng.choice((0, 1, 1, 2))):
        protect = random_protect(rng, agreement["parties"], schemes)
        clauses.append({"article": rng.choice(("8", "11", "2")), "protect": protect})
    if not clauses:
        clauses.append({"article": "8", "protect": {"return_or_destroy": True}})
    rng.shuffle(clauses)
    return [{"text": {"en": f"Article {clause['article']}"}} | clause for clause in clauses]


def random_share(
    rng: random.Random,
    agreement: dict[str, Any],
    agreements: dict[str, Any],
    schemes: dict[str, Any],
    vocabulary: dict[str, Any],
) -> dict[str, Any]:
    own = agreement["parties"]
    first, last = rng.sample(own, 2)  # so that the clause permits something
    share: dict[str, Any] = {
        "from": sorted({first, *rng.sample(own, rng.randint(0, len(own)))}),
        "to": sorted({last, *rng.sample(own, rng.randint(0, len(own)))}),
    }
    if rng.random() < (0.65 if len(own) > 2 else 0.15):
        share["via"] = rng.choice(own)
        if rng.random() < 0.5:
            share["via_reads"] = rng.random() < 0.4
    legs: set[tuple[str, ...]] = set()
    for sender, receiver in itertools.product(share["from"], share["to"]):
        hub = share.get("via")
        if sender == receiver:
            continue
        path = (sender, receiver) if hub in (None, *(sender, receiver)) else (sender, hub, receiver)
        legs.update(tuple(sorted(leg)) for leg in itertools.pairwise(path))
    protected_by = {}
    for leg in sorted(legs):
        covering = [i for i, other in agreements.items() if set(leg) <= set(other["parties"])]
        if rng.random() < 0.6:
            protected_by["-".join(leg)] = rng.choice(covering)
    if protected_by:
        share["protected_by"] = protected_by
    marks = [mark for party in share["from"] for mark in marks_of(schemes, party)]
    return share | random_scope(rng, marks, vocabulary)


def random_onward(
    rng: random.Random,
    agreement: dict[str, Any],
    agreements: dict[str, Any],
    schemes: dict[str, Any],
    vocabulary: dict[str, Any],
) -> dict[str, Any] | None:
    own = agreement["parties"]
    by = sorted(rng.sample(own, rng.randint(1, 2)))
    covering = {
        (sender, receiver): [
            i for i, other in agreements.items() if {sender, receiver} <= set(other["parties"])
        ]
        for sender in by
        for receiver in schemes
        if sender != receiver
    }
    reachable = [
        receiver
        for receiver in schemes
        if receiver not in by and all(covering[sender, receiver] for sender in by)
    ]
    if not reachable:
        return None
    outsiders = [party for party in reachable if party not in own]
    to = set(rng.sample(reachable, rng.randint(1, min(2, len(reachable)))))
    if outsiders and rng.random() < 0.5:
        to.add(rng.choice(outsiders))
    onward: dict[str, Any] = {"by": by, "to": sorted(to)}
    protected_by = {}
    for sender, receiver in itertools.product(by, onward["to"]):
        if receiver not in own or rng.random() < 0.4:
            leg = "-".join(sorted((sender, receiver)))
            protected_by[leg] = rng.choice(covering[sender, receiver])
    if protected_by:
        onward["protected_by"] = protected_by
    marks = [mark for party in own for mark in marks_of(schemes, party)]
    return onward | random_scope(rng, marks, vocabulary)


def random_scope(
    rng: random.Random, marks: list[str], vocabulary: dict[str, Any]
) -> dict[str, Any]:
    """What share and onward clauses may say alike."""
    scope: dict[str, Any] = {
        "consent": "item" if rng.random() < 0.35 else "label",
        "release": "automatic" if rng.random() < 0.4 else "review",
    }
    if rng.random() < 0.25:
        scope["about"] = some(rng, vocabulary["subjects"])
    if rng.random() < 0.35:
        scope["topics"] = some(rng, known_topics(vocabulary))[:3]
    if rng.random() < 0.25:
        scope["kinds"] = rng.sample(KINDS, rng.randint(2, 6))
    if rng.random() < 0.3:
        scope["marks"] = rng.sample(marks, rng.randint((len(marks) + 1) // 2, len(marks)))
    return scope


def random_rows(
    rng: random.Random, parties: list[str], schemes: dict[str, Any]
) -> list[dict[str, Any]]:
    """Rows of equal marks: for all parties at once, or for every pair by itself."""
    if rng.random() < 0.06:
        return []
    groups = [parties]
    if len(parties) > 2 and rng.random() < 0.3:
        groups = [list(pair) for pair in itertools.combinations(parties, 2)]
    rows = []
    for group in groups:
        ladders = {party: rungs_of(schemes, party) for party in group}
        count = rng.randint(2, min(len(ladder) for ladder in ladders.values()))
        split = {party: cut_into(rng, ladder, count) for party, ladder in ladders.items()}
        for number in range(count):
            row = {}
            for party in group:
                if rng.random() < 0.95:
                    codes = [code for rung in split[party][number] for code in rung]
                    row[party] = rng.sample(codes, rng.randint(max(1, len(codes) - 1), len(codes)))
            if len(row) > 1:
                rows.append(row)
    rng.shuffle(rows)
    return rows


def random_protect(
    rng: random.Random, parties: list[str], schemes: dict[str, Any]
) -> dict[str, Any]:
    protect: dict[str, Any] = {}
    if rng.random() < 0.5:
        protect["receipt_within_h"] = rng.choice((0, 12, 24))
    if rng.random() < 0.5:
        protect["return_or_destroy"] = True
    if rng.random() < 0.5:
        protect["report_compromise_within_h"] = rng.choice((0, 2, 48))
    if rng.random() < 0.6 or not protect:
        officers = rng.sample(parties, rng.randint(1, len(parties)))
        protect["two_person_from"] = [rng.choice(marks_of(schemes, party)) for party in officers]
    return protect


def random_timeline(rng: random.Random, ids: list[str]) -> list[dict[str, Any]]:
    """Events in any order; of equal instants the order in which they happened."""
    happened = []
    for agreement_id in ids:
        happened += random_history(rng, agreement_id)
    shuffled = rng.sample(happened, len(happened))
    order: dict[datetime, list[dict[str, Any]]] = {}
    for event in happened:
        order.setdefault(event["at"], []).append(event)
    events = [order[event["at"]].pop(0) for event in shuffled]
    for event in events:
        for key in ("at", "effective"):
            if key in event:
                event[key] = event[key].astimezone(rng.choice(ZONES))
    return events


def random_history(rng: random.Random, agreement_id: str) -> list[dict[str, Any]]:
    """One agreement's events, each in its place when it happens."""
    if rng.random() < 0.04:
        return []
    state = "none"
    notices: list[tuple[datetime, bool]] = []
    now = EPOCH + timedelta(days=rng.randint(0, 3))
    events: list[dict[str, Any]] = []
    for _ in range(rng.choice((1, 1, 1, 1, 1, 1, 2, 3, 4, 5, 6, 8))):
        if any(effective < now and not paused for effective, paused in notices):
            state, notices = "ended", []
        due = any(effective == now and not paused for effective, paused in notices)
        legal = {"none": [], "ended": [], "in-force": ["suspended"], "suspended": ["resumed"]}[
            state
        ]
        if state in ("in-force", "suspended"):
            legal = [*legal, *["termination-notified"] * 3, "terminated", "lapsed"]
        if due:  # only what is in time at the very instant
            legal = []
        if notices:
            legal = [*legal, *("termination-suspended", "termination-resumed") * 2]
            legal.append("notices-withdrawn")
        kind = rng.choice([*legal, "in-force"])
        event: dict[str, Any] = {"agreement": agreement_id, "at": now, "event": kind}
        if kind == "in-force":
            state, notices = "in-force", []
        elif kind == "suspended":
            state = "suspended"
        elif kind == "resumed":
            state = "in-force"
        elif kind in ("terminated", "lapsed"):
            state, notices = "ended", []
        elif kind == "termination-notified":
            event["effective"] = now + timedelta(days=rng.randint(1, 6))
            notices = [*notices, (event["effective"], False)]
        elif kind == "notices-withdrawn":
            notices = []
        else:
            paused = kind == "termination-suspended"
            notices = [(effective, paused) for effective, _ in notices]
        events.append(event)
        now += timedelta(days=rng.choice((0, 1, 1, 2, 3)))
    return events


def cut_into(rng: random.Random, ladder: list[list[str]], count: int) -> list[list[list[str]]]:
    cuts = [0, *sorted(rng.sample(range(1, len(ladder)), count - 1)), len(ladder)]
    return [ladder[start:end] for start, end in itertools.pairwise(cuts)]


def rungs_of(schemes: dict[str, Any], party: str) -> list[list[str]]:
    """The ladder's rungs, highest first, each with what stands beside it."""
    rungs = {
        mark["code"]: [mark["code"]] for mark in schemes[party]["mark"] if "beside" not in mark
    }
    for mark in schemes[party]["mark"]:
        if "beside" in mark:
            rungs[mark["beside"]].append(mark["code"])
    return list(rungs.values())


def marks_of(schemes: dict[str, Any], party: str) -> list[str]:
    return [f"{party}:{code}" for rung in rungs_of(schemes, party) for code in rung]


def known_topics(vocabulary: dict[str, Any]) -> list[str]:
    """The topics and the ancestors that they imply."""
    names: set[str] = set()
    for topic in vocabulary["topics"]:
        parts = topic.split(".")
        names.update(".".join(parts[: length + 1]) for length in range(len(parts)))
    return sorted(names)


def some(rng: random.Random, values: list[str]) -> list[str]:
    return rng.sample(values, rng.randint(1, len(values)))


# Questions


@dataclass(frozen=True, slots=True)
class Route:
    """A clause under which somebody's item might go from a holder to a recipient."""

    agreement: str
    article: str
    terms: dict[str, Any]
    originators: tuple[str, ...]
    holder: str
    to: str

    @property
    def is_blind(self) -> bool:
        """Whether the holder is a hub that does not read."""
        return self.terms.get("via") == self.holder and not self.terms.get("via_reads", True)

    @property
    def hub(self) -> str | None:
        hub: str | None = self.terms.get("via")
        return None if hub in (self.holder, self.to) else hub

    @property
    def first_leg(self) -> tuple[str, str]:
        """The next party, and the agreement that protects the way there."""
        receiver = self.hub or self.to
        leg = "-".join(sorted((self.holder, receiver)))
        return receiver, self.terms.get("protected_by", {}).get(leg, self.agreement)


def routes(regime: Regime) -> list[Route]:
    found = []
    for agreement_id, agreement in regime["agreements"].items():
        for clause in agreement["clause"]:
            article = clause["article"]
            share, onward = clause.get("share"), clause.get("onward")
            for to in share["to"] if share else ():
                for holder in share["from"]:
                    if holder != to:
                        found.append(Route(agreement_id, article, share, (holder,), holder, to))
                hub = share.get("via", to)
                origins = tuple(party for party in share["from"] if party not in (hub, to))
                if hub != to and origins:
                    found.append(Route(agreement_id, article, share, origins, hub, to))
            for holder, to in itertools.product(onward["by"], onward["to"]) if onward else ():
                origins = tuple(p for p in agreement["parties"] if p not in (holder, to))
                if origins:
                    found.append(Route(agreement_id, article, onward, origins, holder, to))
    return found


class Writer:
    """Writes one question along a route, with a fault here and there."""

    def __init__(self, rng: random.Random, regime: Regime) -> None:
        self.rng = rng
        self.regime = regime
        self.schemes = regime["schemes"]
        self.parties: list[str] = list(self.schemes)
        self.routes = routes(regime)
        self.at = random_instant(rng, regime)
        if self.routes and not self.chance(0.03):
            past_hub = [route for route in self.routes if route.hub]
            main = rng.choice(past_hub if past_hub and self.chance(0.2) else self.routes)
            self.holder, self.to = main.holder, main.to
        else:
            self.holder, self.to = rng.sample(self.parties, 2)
        if self.chance(0.015):
            self.to = self.holder
        self.open = [r for r in self.routes if (r.holder, r.to) == (self.holder, self.to)]
        self.exercise = self.chance(0.05)
        self.careful = self.chance(0.6)  # otherwise faults are likely
        self.basis: dict[str, list[dict[str, str]]] = {}
        self.consents: list[dict[str, Any]] = []
        self.status: list[dict[str, Any]] = []
        self.seqs = {party: rng.sample(range(1, 100), 40) for party in self.parties}
        self.readers_needed = {self.to, self.holder}

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def well(self) -> bool:
        """Whether this detail is as the route wants it."""
        return self.chance(0.995 if self.careful else 0.85)

    def question(self) -> Question:
        rng = self.rng
        item = self.plain_item() if self.chance(0.5) else self.derived_item()
        holding: dict[str, Any] = {}
        if item["originator"] != self.holder:
            holding["held_as"] = self.held_mark()
        if self.basis:
            holding["basis"] = self.basis
        self.add_stray_records(item)
        if self.status and self.chance(0.7):
            stamped = [s["seq"] for s in self.status if s["by"] == item["originator"]]
            if stamped and item["originator"] != self.holder:
                holding["stamped_seq"] = max(stamped) if self.well() else rng.choice(stamped) - 1
        question: Question = {
            "id": f"q{rng.randrange(10**6)}",
            "at": text(self.at),
            "holder": self.holder,
            "to": self.to,
            "item": item,
        }
        for key, value in (
            ("holding", holding),
            ("consents", self.consents),
            ("status", self.status),
        ):
            if value or self.chance(0.5):
                question[key] = value
        if self.chance(0.03):
            del question["id"]
        return question

    def plain_item(self) -> dict[str, Any]:
        route = self.pick_route(self.open)
        originator = self.originator(route)
        item = {"id": "i1"} | self.label("i1", originator, route)
        if originator == self.holder:
            item["mark"] = self.mark_to_send(originator, route)
        item["kind"] = self.kind([route])
        return item

    def derived_item(self) -> dict[str, Any]:
        rng = self.rng
        others = [party for party in self.parties if party not in (self.holder, self.to)]
        maker = rng.choice(others) if others and self.chance(0.4) else self.holder
        way = self.pick_route([r for r in self.open if maker in r.originators] or self.open)
        sources = [{"item": "self"} | self.label("self", maker, way)]
        chosen = [way]
        for number in range(rng.choice((0, 1, 1, 2))):
            name = f"s{number}"
            alike = [route for route in self.open if same_way(route, way)]
            route = self.pick_route(alike if alike and self.chance(0.6) else self.open)
            originator = self.originator(route, but=maker)
            if originator == maker:
                continue
            sources.append({"item": name} | self.label(name, originator, route))
            chosen.append(route)
        mark = self.mark_to_send(maker, way) if maker == self.holder else self.any_mark(maker)
        for source in sources:
            low = [m for m in marks_of(self.schemes, maker) if not above(self.schemes, m, mark)]
            source["mark" if source["item"] == "self" else "held_as"] = rng.choice(low)
        rng.shuffle(sources)
        item = {
            "id": "i1",
            "originator": maker,
            "mark": mark,
            "releasable_to": self.readers(maker),
            "kind": self.kind(chosen),
            "topics": sorted({topic for source in sources for topic in source["topics"]}),
            "about": sorted({subject for source in sources for subject in source["about"]}),
            "sources": sources,
        }
        return item | ({"exercise": True} if self.exercise else {})

    def pick_route(self, among: list[Route]) -> Route | None:
        return self.rng.choice(among) if among and self.well() else None

    def originator(self, route: Route | None, but: str = "") -> str:
        if self.to != but and self.chance(0.08 if but else 0.01):
            return self.to  # own information, or, of a plain item, nothing to send
        wanted: tuple[str, ...] = route.originators if route and self.well() else ()
        among = [party for party in wanted if party != but]
        anyone = [p for p in self.parties if p not in (but, self.to)]
        return self.rng.choice(among or anyone or [but])

    def label(self, name: str, originator: str, route: Route | None) -> dict[str, Any]:
        """The source's label; on the way, its basis and the consents it needs."""
        if route and route.is_blind and self.chance(0.7):
            self.readers_needed.discard(self.holder)
        rng, vocabulary = self.rng, self.regime["vocabulary"]
        if route and route.hub and route.terms.get("via_reads", True):
            self.readers_needed.add(route.hub)
        if originator != self.holder:
            self.add_basis(name, originator, route)
        topics, about = known_topics(vocabulary), vocabulary["subjects"]
        if route and self.well():
            if "topics" in route.terms:
                named = tuple(f"{topic}." for topic in route.terms["topics"])
                topics = [topic for topic in topics if f"{topic}.".startswith(named)]
            about = route.terms.get("about", about)
        label = {
            "originator": originator,
            "mark": self.any_mark(originator),
            "releasable_to": self.readers(originator),
            "topics": some(rng, topics)[:2] if self.well() else [],
            "about": some(rng, about)[:2] if self.well() else [],
        }
        covered = [m for m in route.terms.get("marks", ()) if is_of(m, originator)] if route else []
        if covered and self.well():
            label["mark"] = rng.choice(covered)
        if route and originator not in (self.to,):
            lawful = originator in route.originators and (
                originator == self.holder or name in self.basis
            )
            if route.terms["consent"] == "item" or not lawful:
                self.add_consent(originator, name)
        return label | ({"exercise": True} if self.exercise else {})

    def readers(self, originator: str) -> list[str]:
        wanted = self.readers_needed
        among = self.rng.sample(self.parties, len(self.parties))
        return [
            party
            for party in among
            if party != originator and (self.well() if party in wanted else self.chance(0.3))
        ]

    def add_basis(self, name: str, originator: str, route: Route | None) -> None:
        receipts = []
        if route and self.well():
            receipts.append({"agreement": route.agreement, "article": route.article})
        clauses = [
            (agreement_id, clause)
            for agreement_id, agreement in self.regime["agreements"].items()
            for clause in agreement["clause"]
            if "share" in clause or "onward" in clause
        ]
        while clauses and self.chance(0.25):
            agreement_id, clause = self.rng.choice(clauses)
            if "share" in clause and self.chance(0.4):
                kind = self.rng.choice(("consent", "own-information"))
                receipts.append({kind: f"{agreement_id}/{clause['article']}"})
            else:
                receipts.append({"agreement": agreement_id, "article": clause["article"]})
        if receipts:
            self.basis[name] = receipts

    def held_mark(self) -> str:
        return self.mark_to_send(self.holder, self.rng.choice(self.open) if self.open else None)

    def mark_to_send(self, party: str, route: Route | None) -> str:
        """A mark of the holder with an equivalent on the first leg, mostly."""
        if route and party == route.holder and self.well():
            receiver, agreement = route.first_leg
            marks = [
                f"{party}:{code}"
                for clause in self.regime["agreements"][agreement]["clause"]
                for row in clause.get("equate", {"rows": []})["rows"]
                if party in row and receiver in row
                for code in row[party]
            ]
            covered = [mark for mark in marks if mark in route.terms.get("marks", marks)]
            if covered or marks:
                return self.rng.choice(covered or marks)
        return self.any_mark(party)

    def any_mark(self, party: str) -> str:
        return self.rng.choice(marks_of(self.schemes, party))

    def kind(self, chosen: list[Route | None]) -> str:
        kinds = [route.terms["kinds"] for route in chosen if route and "kinds" in route.terms]
        if kinds and self.well():
            common = [kind for kind in KINDS if all(kind in some for some in kinds)]
            return self.rng.choice(common or list(KINDS))
        return self.rng.choice(KINDS)

    def add_consent(self, by: str, name: str) -> None:
        if not self.well():
            return
        item = "i1" if name == "self" or self.chance(0.4) else name
        expires = self.rng.choice((None, None, None, 1, 86400))
        if not self.well():
            expires = self.rng.choice((0, -1))
        record = self.consent(by, item, grant=True, at=self.moment(), expires=expires)
        record["to"] = [self.to, *[p for p in record["to"] if p != self.to]]
        self.consents.append(record)

    def add_stray_records(self, item: dict[str, Any]) -> None:
        """Records with little regard for what is asked."""
        ids = ["i1", *[s["item"] for s in item.get("sources", ()) if s["item"] != "self"], "i9"]
        owners = {source["originator"] for source in item.get("sources", [item])}
        while self.chance(0.15 if self.careful else 0.4):
            by = self.rng.choice(sorted(owners) if self.chance(0.8) else self.parties)
            grant, expires = self.chance(0.6), self.rng.choice((None, -86400, -1, 0, 1))
            name = self.rng.choice(ids)
            record = self.consent(by, name, grant=grant, at=self.moment(), expires=expires)
            self.consents.append(record)
        while self.chance(0.1 if self.careful else 0.35):
            name = self.rng.choice(ids)
            by = self.rng.choice(sorted(owners) if self.chance(0.9) else self.parties)
            named = [s["originator"] for s in item.get("sources", ()) if s["item"] == name]
            if self.chance(0.7):
                by = named[0] if named else item["originator"]
            status = {"by": by, "item": name, "at": text(self.moment()), "seq": self.seq(by)}
            if self.chance(0.1):
                status["recalled"] = True
            if "recalled" not in status or self.chance(0.2):
                status["mark"] = self.any_mark(by)
            self.status.append(status)
            if named and "mark" in status and self.chance(0.5):  # the maker follows
                maker = item["originator"]
                follows = {"by": maker, "item": "i1", "at": status["at"], "seq": self.seq(maker)}
                self.status.append(follows | {"mark": item["mark"]})
        for records in (self.consents, self.status):
            if records and self.chance(0.05):
                records.append(copy.deepcopy(self.rng.choice(records)))
            self.rng.shuffle(records)

    def consent(
        self, by: str, item: str, *, grant: bool, at: datetime, expires: int | None
    ) -> dict[str, Any]:
        """A consent record; `expires` in seconds from the question's instant."""
        others = [party for party in self.parties if party != by]
        to = self.rng.sample(others, self.rng.randint(1, min(2, len(others))))
        record: dict[str, Any] = {"by": by, "item": item, "to": to, "seq": self.seq(by)}
        record |= {"at": text(at), "grant": grant}
        if expires is not None:
            record["expires"] = text(self.at + timedelta(seconds=expires))
        return record

    def seq(self, party: str) -> int:
        return self.seqs[party].pop()

    def moment(self) -> datetime:
        """An instant not long before the question's, or its very own, or just after."""
        seconds = self.rng.choice((-86400, -3600, -3600, -1, 0, 0, 0, 1))
        return self.at + timedelta(seconds=seconds)


def random_question(rng: random.Random, regime: Regime) -> Question:
    """A question on the regime. About one in fourteen has one thing wrong."""
    question = Writer(rng, regime).question()
    if rng.random() < 0.07:
        rng.choice(MUTATIONS)(rng, regime, question)
    return question


def same_way(route: Route, other: Route | None) -> bool:
    return (
        other is not None
        and (route.hub, route.first_leg) == (other.hub, other.first_leg)
        and (route.hub is None or route.terms == other.terms)
    )


def above(schemes: dict[str, Any], mark: str, other: str) -> bool:
    party = mark.split(":")[0]
    height = {f"{party}:{c}": n for n, rung in enumerate(rungs_of(schemes, party)) for c in rung}
    return height[mark] < height[other]


def is_of(mark: str, party: str) -> bool:
    return mark.startswith(f"{party}:")


def text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def random_instant(rng: random.Random, regime: Regime) -> datetime:
    """Somewhere on the timeline, often right at an edge of it or a second to either side."""
    events = regime["timeline"]["event"]
    if events and rng.random() < 0.5:
        event = rng.choice(events)
        edge: datetime = event[rng.choice([key for key in ("at", "effective") if key in event])]
        return edge.astimezone(UTC) + timedelta(seconds=rng.choice((-1, 0, 0, 1)))
    return EPOCH + timedelta(days=rng.randint(2, DAYS), hours=12)


# Faults, one of which makes a question malformed (§4 (1))


Mutation = Callable[[random.Random, Regime, Question], None]


def objects_of(question: Question) -> list[dict[str, Any]]:
    found = [question, question["item"], *question["item"].get("sources", [])]
    return [*found, *question.get("consents", []), *question.get("status", [])]


def with_unknown_key(rng: random.Random, regime: Regime, question: Question) -> None:
    rng.choice(objects_of(question))[rng.choice(("note", "Mark", "via"))] = "x"


def with_missing_key(rng: random.Random, regime: Regime, question: Question) -> None:
    found = rng.choice([question, question["item"], *question["item"].get("sources", [])])
    optional = ("id", "holding", "consents", "status", "exercise", "sources")
    del found[rng.choice([key for key in found if found is not question or key not in optional])]


def with_missing_record_key(rng: random.Random, regime: Regime, question: Question) -> None:
    consent = {"by": rng.choice(list(regime["schemes"])), "item": "i9", "to": [], "seq": 1}
    question["consents"] = [consent | {"grant": True}]


def with_mistyped_value(rng: random.Random, regime: Regime, question: Question) -> None:
    found = rng.choice(objects_of(question))
    key = rng.choice(list(found))
    found[key] = None if rng.random() < 0.5 else 1.5


def with_unknown_name(rng: random.Random, regime: Regime, question: Question) -> None:
    item = question["item"]
    place, key, value = rng.choice(
        (
            (question, "holder", "XXX"),
            (question, "to", "usa"),
            (item, "originator", "XXX"),
            (item, "mark", f"{item['originator']}:ZZ"),
            (item, "releasable_to", ["XXX"]),
            (item, "kind", "rumour"),
            (item, "topics", ["weather"]),
            (item, "about", ["ATL"]),
        )
    )
    place[key] = value


def with_foreign_mark(rng: random.Random, regime: Regime, question: Question) -> None:
    item = rng.choice([question["item"], *question["item"].get("sources", [])])
    foreign = rng.choice([party for party in regime["schemes"] if party != item["originator"]])
    item["mark"] = rng.choice(marks_of(regime["schemes"], foreign))


def with_bad_readers(rng: random.Random, regime: Regime, question: Question) -> None:
    item = rng.choice([question["item"], *question["item"].get("sources", [])])
    other = rng.choice([party for party in regime["schemes"] if party != item["originator"]])
    item["releasable_to"] = rng.choice(([item["originator"]], [other, other]))


def with_bad_held_as(rng: random.Random, regime: Regime, question: Question) -> None:
    holding = question.setdefault("holding", {})
    party = question["holder"]
    if party == question["item"]["originator"]:
        holding["held_as"] = rng.choice(marks_of(regime["schemes"], party))
    elif rng.random() < 0.5:
        holding.pop("held_as", None)
    else:
        foreign = rng.choice([other for other in regime["schemes"] if other != party])
        holding["held_as"] = rng.choice(marks_of(regime["schemes"], foreign))


def with_bad_basis(rng: random.Random, regime: Regime, question: Question) -> None:
    basis = question.setdefault("holding", {}).setdefault("basis", {})
    agreement = rng.choice(list(regime["agreements"]))
    basis[rng.choice((*list(basis), "i1", "s0", "nothing"))] = [
        {"agreement": agreement, "article": "99"}
    ]


def with_basis_for_own(rng: random.Random, regime: Regime, question: Question) -> None:
    basis = question.setdefault("holding", {}).setdefault("basis", {})
    item = question["item"]
    owners = {"i1": item["originator"]} | {
        source["item"]: source["originator"] for source in item.get("sources", [])
    }
    names = [name for name, owner in owners.items() if owner == question["holder"]]
    basis[rng.choice(names or ["nothing"])] = []


def with_bad_sources(rng: random.Random, regime: Regime, question: Question) -> None:
    item = question["item"]
    if not item.get("sources"):
        item["sources"] = []
        return
    sources = item["sources"]
    own = next(source for source in sources if source["item"] == "self")
    twin = copy.deepcopy(rng.choice(sources))
    match rng.randrange(6):
        case 0:
            sources.append(twin)
        case 1:
            sources.remove(own)
        case 2:
            sources.append(own | {"item": "s8", "held_as": item["mark"]})
        case 3:
            own["held_as"] = item["mark"]
        case 4:
            foreign = [party for party in regime["schemes"] if party != own["originator"]]
            own["originator"] = rng.choice(foreign)
            own["mark"] = rng.choice(marks_of(regime["schemes"], own["originator"]))
            own["releasable_to"] = []
        case _:
            item["id"] = "self"


def with_low_mark(rng: random.Random, regime: Regime, question: Question) -> None:
    item = question["item"]
    ladder = marks_of(regime["schemes"], item["originator"])
    for source in item.get("sources", []):
        source["mark" if source["item"] == "self" else "held_as"] = ladder[0]
        item["mark"] = ladder[-1]


def with_lost_topic(rng: random.Random, regime: Regime, question: Question) -> None:
    if "sources" in question["item"]:
        question["item"][rng.choice(("topics", "about"))] = []


def with_mixed_exercise(rng: random.Random, regime: Regime, question: Question) -> None:
    if "sources" in question["item"]:
        found = rng.choice([question["item"], *question["item"]["sources"]])
        if found.pop("exercise", None) is None:
            found["exercise"] = True


def with_one_seq_twice(rng: random.Random, regime: Regime, question: Question) -> None:
    by, other = rng.sample(list(regime["schemes"]), 2)
    consent = {"by": by, "item": "i9", "to": [other], "seq": 500, "at": question["at"]}
    question.setdefault("consents", []).append(consent | {"grant": True})
    if rng.random() < 0.5:
        question["consents"].append(consent | {"grant": False})
    else:
        status = {"by": by, "item": "i8", "seq": 500, "at": question["at"], "recalled": True}
        question.setdefault("status", []).append(status)


def with_bad_instant(rng: random.Random, regime: Regime, question: Question) -> None:
    question["at"] = rng.choice(
        ("2015-01-05T00:00:00+00:00", "2015-01-05", "2015-02-30T00:00:00Z", "2015-1-5T00:00:00Z")
    )


MUTATIONS: tuple[Mutation, ...] = (
    with_unknown_key,
    with_missing_key,
    with_missing_record_key,
    with_mistyped_value,
    with_unknown_name,
    with_foreign_mark,
    with_bad_readers,
    with_bad_held_as,
    with_bad_basis,
    with_basis_for_own,
    with_bad_sources,
    with_low_mark,
    with_lost_topic,
    with_mixed_exercise,
    with_one_seq_twice,
    with_bad_instant,
)
