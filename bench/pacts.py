"""Generated regimes of any size, shaped like real ones, and questions that touch what is in them.

Some parties are hubs. Each of the others has agreements with some hubs (equal marks, sharing both
ways, warnings that the hub may pass on, duties), and arrangements with others under such a hub,
which rest on those agreements: tisa-2014 many times over. All from a seed.
"""

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from relto.clauses import Onward, Share, equivalences, leg_key, path_of
from relto.labels import KINDS
from relto.regime import Regime

__all__ = ["generated_files", "generated_questions"]

CODES = ("TS", "S", "C", "R")  # every party's ladder
AREAS = ("missile", "nuclear", "cyber", "maritime", "space", "health")
TOPICS = tuple(f"{area}.{detail}" for area in AREAS for detail in ("launch", "test", "trade"))
SUBJECTS = tuple(f"S{i:02}" for i in range(12))
START = datetime(2000, 1, 1, tzinfo=UTC)
YEARS = 20
HUB_EVERY = 10  # one party in ten is a hub
TEXT = {"en": "Generated."}

Data = dict[str, Any]


def generated_files(rng: random.Random, parties: int, agreements: int) -> dict[str, Data]:
    """The files of a regime by their paths, as TOML data: `agreements` of them, half bilateral."""
    names = [f"P{i:03}" for i in range(parties)]
    hubs = names[: max(1, parties // HUB_EVERY)]
    pairs = [(hub, name) for name in names for hub in hubs if hub < name]
    arrangements = agreements // 2 if agreements > 3 else 1
    protected = sorted(rng.sample(pairs, min(len(pairs), agreements - arrangements)))
    spokes: dict[str, list[str]] = {}
    for hub, name in protected:
        spokes.setdefault(hub, []).append(name)
    made = {_bilateral_id(*pair): _bilateral(rng, *pair, spokes[pair[0]]) for pair in protected}
    shared = sorted(hub for hub, around in spokes.items() if len(around) > 1)
    for number in range(agreements - len(made)):
        hub = rng.choice(shared)
        around = sorted(rng.sample(spokes[hub], min(len(spokes[hub]), rng.choice((2, 2, 2, 3, 4)))))
        made[f"arrangement-{number:04}"] = _arrangement(rng, number, hub, around)
    files: dict[str, Data] = {f"agreements/{name}.toml": made[name] for name in made}
    for name in names:
        marks = [{"code": code, "banner": {"en": code}} for code in CODES]
        files[f"schemes/{name}.toml"] = {"party": name, "name": {"en": name}, "mark": marks}
    files["vocabulary.toml"] = {"topics": list(TOPICS), "subjects": list(SUBJECTS)}
    files["timeline.toml"] = {"event": [e for name in made for e in _events(rng, name)]}
    return files


def _bilateral_id(hub: str, name: str) -> str:
    return f"pair-{hub}-{name}"


def _agreement(name: str, kind: str, parties: list[str], clauses: list[Data]) -> Data:
    return {
        "format": "relto-agreement/1",
        "id": name,
        "kind": kind,
        "parties": parties,
        "depositary": parties[0],
        "title": TEXT,
        "clause": [{"text": TEXT, **clause} for clause in clauses],
    }


def _bilateral(rng: random.Random, hub: str, name: str, spokes: list[str]) -> Data:
    both = [hub, name]
    shift = rng.choice((0, 0, 0, 1))  # whose SECRET is the other's CONFIDENTIAL
    rows = [{hub: [a], name: [b]} for a, b in zip(CODES[shift:], CODES, strict=False)]
    clauses: list[Data] = [
        {"article": "2", "equate": {"rows": rows}},
        {"article": "4", "share": {"from": both, "to": both, **_scope(rng, ())}},
        {
            "article": "9",
            "protect": {
                "receipt_within_h": rng.choice((24, 48)),
                "return_or_destroy": True,
                "two_person_from": [f"{hub}:TS", f"{name}:TS"],
            },
        },
    ]
    others = [other for other in spokes if other != name]
    if others:  # the hub may pass on warnings to some others that it has an agreement with
        to = sorted(rng.sample(others, min(len(others), 4)))
        onward = {
            "by": [hub],
            "to": to,
            "protected_by": {leg_key(hub, t): _bilateral_id(hub, t) for t in to},
            "kinds": ["warning"],
            "consent": "label",
            "release": "automatic",
        }
        clauses.append({"article": "5", "onward": onward})
    return _agreement(_bilateral_id(hub, name), "agreement", both, clauses)


def _arrangement(rng: random.Random, number: int, hub: str, around: list[str]) -> Data:
    guards = {leg_key(hub, name): _bilateral_id(hub, name) for name in around}
    share = {
        "from": around,
        "to": around,
        "via": hub,
        "via_reads": rng.random() < 0.9,
        "protected_by": guards,
        **_scope(rng, around),
    }
    made = _agreement(
        f"arrangement-{number:04}",
        "arrangement",
        sorted([hub, *around]),
        [{"article": "4", "share": share}],
    )
    return {**made, "rests_on": sorted(guards.values())}


def _scope(rng: random.Random, marks_of: list[str] | tuple[()]) -> Data:
    """What a share clause covers: of an arrangement narrow, of an agreement often anything."""
    scope: Data = {"consent": "label", "release": rng.choice(("review", "review", "automatic"))}
    narrow = bool(marks_of)
    if narrow or rng.random() < 0.3:
        scope["topics"] = sorted(rng.sample(AREAS, 2))
    if narrow or rng.random() < 0.2:
        scope["about"] = sorted(rng.sample(SUBJECTS, 3))
    if rng.random() < 0.5:
        scope["kinds"] = sorted(rng.sample(KINDS, 6))
    if narrow:
        scope["marks"] = [f"{name}:{code}" for name in marks_of for code in ("S", "C")]
    return scope


def _events(rng: random.Random, name: str) -> list[Data]:
    """In force from some day on; one in five suspended for a while or ended."""
    day = timedelta(days=1)
    at = START + day * rng.randrange(365 * YEARS // 2)
    events: list[Data] = [{"agreement": name, "at": at, "event": "in-force"}]
    ends = rng.random()
    later = at + day * rng.randrange(100, 2000)
    if ends < 0.1:
        events.append({"agreement": name, "at": later, "event": "suspended"})
        events.append({"agreement": name, "at": later + 200 * day, "event": "resumed"})
    elif ends < 0.2:
        notice = {"agreement": name, "at": later, "event": "termination-notified"}
        events.append({**notice, "effective": later + 365 * day})
    return events


@dataclass(frozen=True, slots=True)
class _Way:
    """One way that a clause opens, when everything else fits."""

    agreement: str
    article: str
    body: Share | Onward
    path: tuple[str, ...]
    originators: tuple[str, ...]


def generated_questions(rng: random.Random, regime: Regime, count: int) -> list[Data]:
    """Questions on single items, as JSON data: most follow a clause, in each something may differ.

    What they never have: sources, consents and status records.
    """
    ways = _ways(regime)
    return [_question(rng, regime, rng.choice(ways), f"q{i}") for i in range(count)]


def _ways(regime: Regime) -> list[_Way]:
    found: list[_Way] = []
    for agreement in regime.agreements.values():
        for clause in agreement.clauses:
            body = clause.body
            ends: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
            if isinstance(body, Share):
                for to in sorted(body.to):
                    for a in sorted(body.senders - {to}):
                        ends.append((path_of(a, body.via, to), (a,)))
                    if body.via is not None and body.via != to:
                        ends.append(((body.via, to), tuple(sorted(body.senders - {to}))))
            elif isinstance(body, Onward):
                for by in sorted(body.by):
                    for to in sorted(body.to - {by}):
                        ends.append(((by, to), tuple(sorted(agreement.parties - {by, to}))))
            if isinstance(body, Share | Onward):
                found += [_Way(agreement.id, clause.article, body, *e) for e in ends if e[1]]
    return found


def _question(rng: random.Random, regime: Regime, way: _Way, name: str) -> Data:
    """A question that fits the way, but for what chance changes in it."""

    def fits() -> bool:
        return rng.random() < 0.93

    holder, to = way.path[0], way.path[-1]
    originator = rng.choice(way.originators)
    scope = way.body.scope
    marks = [f"{originator}:{code}" for code in CODES]
    if scope.marks is not None and fits():
        marks = [m for m in marks if m in scope.marks] or marks
    areas = sorted(scope.topics) if scope.topics is not None and fits() else list(AREAS)
    topics = [t for t in TOPICS if t.startswith(tuple(f"{area}." for area in areas))]
    subjects = sorted(scope.about) if scope.about is not None and fits() else list(SUBJECTS)
    kinds = sorted(scope.kinds) if scope.kinds is not None and fits() else list(KINDS)
    parties = sorted(regime.parties)
    readers = {*way.path, *rng.sample(parties, min(len(parties), 3))}
    if not fits():
        readers.discard(rng.choice(way.path))
    if rng.random() < 0.05:
        to = rng.choice(parties)
    mark = rng.choice(marks)
    year = rng.randrange(YEARS * 3 // 4, YEARS) if fits() else rng.randrange(YEARS)
    at = START + timedelta(days=365 * year + rng.randrange(365), seconds=rng.randrange(86_400))
    question: Data = {
        "id": name,
        "at": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "holder": holder,
        "to": to,
        "item": {
            "id": f"item-{name}",
            "originator": originator,
            "mark": mark,
            "releasable_to": sorted(readers - {originator}),
            "kind": rng.choice(kinds),
            "topics": sorted(rng.sample(topics, rng.choice((1, 1, 2)))),
            "about": [rng.choice(subjects)],
        },
    }
    if holder != originator:
        question["holding"] = _holding(rng, regime, way, holder, originator, mark)
        basis = {"agreement": way.agreement, "article": way.article}
        if isinstance(way.body, Onward):  # received under a share clause of the same agreement
            basis["article"] = "4"
        question["holding"]["basis"] = {f"item-{name}": [basis] if fits() else []}
    return question


def _holding(
    rng: random.Random, regime: Regime, way: _Way, holder: str, originator: str, mark: str
) -> Data:
    """The holder stamped what the table of the leg that it came by says."""
    guard = way.body.protected_by.get(leg_key(originator, holder), way.agreement)
    table = equivalences(regime.agreements[guard]).get((originator, holder), {})
    stamped = table[mark].name if mark in table else f"{holder}:{rng.choice(CODES)}"
    return {"held_as": stamped}
