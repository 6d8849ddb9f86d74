"""What is legal in a regime but suspicious: warnings of `relto regime check`."""

from collections.abc import Iterator, Mapping
from itertools import pairwise

from relto.clauses import (
    Agreement,
    Clause,
    Equate,
    Onward,
    Pair,
    Protect,
    Share,
    equivalences,
    leg_key,
    path_of,
)
from relto.marks import Mark, Scheme
from relto.tables import Document, quoted
from relto.timeline import Timeline
from relto.topics import Vocabulary

__all__ = ["suspicions"]

Warning_ = tuple[str, int, str]  # file, line, message
Tables = dict[str, dict[Pair, dict[str, Mark]]]


def suspicions(
    schemes: Mapping[str, Scheme],
    vocabulary: Vocabulary,
    agreements: Mapping[str, Agreement],
    timeline: Timeline,
    documents: Mapping[str, Document],
) -> Iterator[Warning_]:
    """Warnings as (file, line, message), in order of files and lines."""
    tables = {a.id: equivalences(a) for a in agreements.values()}
    found: list[Warning_] = [
        *_contradictions(agreements, tables),
        *_missing_languages(schemes, agreements, documents),
    ]
    for agreement in agreements.values():
        if not timeline.turns[agreement.id]:
            found.append(
                (
                    agreement.file,
                    1,
                    "is in force at no instant, so none of its clauses ever applies",
                )
            )
        for clause in agreement.clauses:
            if isinstance(clause.body, Share | Onward):
                found += _never_applies(agreement, clause, tables, schemes)
                found += _automatic_before_officers(agreement, clause, agreements, tables, schemes)
    return iter(sorted(set(found)))


def _contradictions(agreements: Mapping[str, Agreement], tables: Tables) -> Iterator[Warning_]:
    ids = sorted(agreements)
    by_pair: dict[Pair, list[str]] = {}
    for name in ids:
        for pair in tables[name]:
            by_pair.setdefault(pair, []).append(name)
    for (a, b), names in sorted(by_pair.items()):
        for number, second in enumerate(names):
            for first in names[:number]:
                one, other = tables[first][a, b], tables[second][a, b]
                for mark in sorted(one.keys() & other.keys()):
                    if one[mark].rank != other[mark].rank:
                        yield (
                            agreements[second].file,
                            _equate_line(agreements[second]),
                            f"makes {mark} equal to {other[mark].name}, but {first} makes it equal "
                            f"to {one[mark].name}",
                        )


def _equate_line(agreement: Agreement) -> int:
    return next(c.line for c in agreement.clauses if isinstance(c.body, Equate))


def _legs_of(body: Share | Onward) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(originator or holder, path) for each way that the clause can go."""
    if isinstance(body, Onward):
        yield from ((a, (a, b)) for a, b in body.legs())
        return
    for sender in sorted(body.senders):
        for receiver in sorted(body.to - {sender}):
            yield sender, path_of(sender, body.via, receiver)


def _never_applies(
    agreement: Agreement, clause: Clause, tables: Tables, schemes: Mapping[str, Scheme]
) -> Iterator[Warning_]:
    body = clause.body
    assert isinstance(body, Share | Onward)  # noqa: S101  # the caller's own filter
    where = (agreement.file, clause.line)
    ways = list(_legs_of(body))
    if not ways:
        yield (*where, f"article {clause.article} can never apply: nobody can send to anybody else")
        return
    missing = {
        leg_key(a, b): guard
        for _, path in ways
        for a, b in pairwise(path)
        if (a, b) not in tables[guard := body.protected_by.get(leg_key(a, b), agreement.id)]
    }
    for leg, guard in sorted(missing.items()):
        yield (
            *where,
            f"article {clause.article} can take the leg {leg}, but {guard} has no row of "
            "equal marks for it",
        )
    possible: set[str] = set()
    for sender, path in ways:
        marks = {m.name for m in schemes[sender].marks}
        if body.scope.marks is not None and isinstance(body, Share):
            marks &= body.scope.marks
        for mark in marks:
            if _travels(mark, path, body, agreement.id, tables):
                possible.add(mark)
    if not possible and not missing:
        yield (
            *where,
            f"article {clause.article} can never apply: no mark it covers has a row on every leg",
        )
    if isinstance(body, Share) and body.scope.marks is not None:
        for mark in sorted(body.scope.marks - possible):
            party = mark.partition(":")[0]
            why = (
                f"{party} is no originator in it"
                if party not in body.senders
                else "no row carries it on every leg"
            )
            yield (*where, f"article {clause.article} names {mark}, which can never travel: {why}")


def _travels(
    mark: str, path: tuple[str, ...], body: Share | Onward, own: str, tables: Tables
) -> bool:
    for a, b in pairwise(path):
        guard = body.protected_by.get(leg_key(a, b), own)
        stamped = tables[guard].get((a, b), {}).get(mark)
        if stamped is None:
            return False
        mark = stamped.name
    return True


def _automatic_before_officers(
    agreement: Agreement,
    clause: Clause,
    agreements: Mapping[str, Agreement],
    tables: Tables,
    schemes: Mapping[str, Scheme],
) -> Iterator[Warning_]:
    """`automatic` goes before `two_person_from`: whoever wants officers says so in `marks`."""
    body = clause.body
    assert isinstance(body, Share | Onward)  # noqa: S101  # the caller's own filter
    if body.release != "automatic":
        return
    ranks = {m.name: m.rank for s in schemes.values() for m in s.marks}
    asked: set[tuple[str, str]] = set()  # (agreement, mark from which it asks for two officers)
    for sender, path in _legs_of(body):
        for mark in (m.name for m in schemes[sender].marks):
            if body.scope.marks is not None and mark not in body.scope.marks:
                continue
            if not _travels(mark, path, body, agreement.id, tables):
                continue
            in_hands = mark
            for a, b in pairwise(path):
                guard = body.protected_by.get(leg_key(a, b), agreement.id)
                if a == sender or (isinstance(body, Share) and body.via_reads):
                    asked |= {
                        (name, floor)
                        for name in (agreement.id, guard)
                        for floor in _two_person_from(agreements[name])
                        if floor.partition(":")[0] == a and ranks[in_hands] <= ranks[floor]
                    }
                in_hands = tables[guard][a, b][in_hands].name
    for name, floor in sorted(asked):
        yield (
            agreement.file,
            clause.line,
            f"article {clause.article} releases without review although {name} asks for two "
            f"officers from {floor}; leave such marks out of marks",
        )


def _two_person_from(agreement: Agreement) -> Iterator[str]:
    for clause in agreement.clauses:
        if isinstance(clause.body, Protect):
            yield from clause.body.two_person_from


def _missing_languages(
    schemes: Mapping[str, Scheme],
    agreements: Mapping[str, Agreement],
    documents: Mapping[str, Document],
) -> Iterator[Warning_]:
    texts: list[tuple[str, int, str, Mapping[str, str]]] = []
    for party, scheme in schemes.items():
        file = f"schemes/{party}.toml"
        texts.append((file, documents[file].line(("name",)), "name", scheme.name))
    for agreement in agreements.values():
        title_line = documents[agreement.file].line(("title",))
        texts.append((agreement.file, title_line, "title", agreement.title))
        texts += [
            (agreement.file, clause.line, f"article {clause.article}", clause.text)
            for clause in agreement.clauses
        ]
    languages = sorted({language for *_, words in texts for language in words})
    for file, line, what, words in texts:
        missing = [language for language in languages if language not in words]
        if missing:
            yield file, line, f"{what} has no text in {quoted(', '.join(missing))}; others have"
