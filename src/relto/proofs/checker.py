"""Checks a certificate of `relto prove` against a regime, sharing no code with the prover.

A certificate lists all that can be held (docs/spec/proof.md). If it has what originators begin
with, no permitted move and nothing that a reader makes leads out of it, and no move within it
breaks a property, then no chain of any length does. The rules are read anew from DESIGN §4.
"""

from collections.abc import Iterator, Mapping
from functools import cache, reduce
from itertools import pairwise, product
from math import prod
from operator import or_
from typing import Any

from relto.clauses import Agreement, Citation, Equate, Onward, Share
from relto.errors import CallerError
from relto.labels import KINDS
from relto.regime import Regime

__all__ = ["check"]

Held = tuple[str, str, str, bool, bool]  # holder, basis, mark, reads, made by another
Move = tuple[Held, str, dict[int, bool], set[str], int]  # to, citation, instants, readers, labels


def check(certificate: Mapping[str, Any], regime: Regime) -> None:
    """Raises CallerError with the first flaw; else all its properties hold."""
    try:
        _Check(certificate, regime).run()
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as e:
        raise CallerError(f"the certificate is malformed: {type(e).__name__} {e}") from None


def demand(sound: object, flaw: str) -> None:
    if not sound:
        raise CallerError(f"the certificate does not hold: {flaw}")


class _Check:
    def __init__(self, certificate: Mapping[str, Any], regime: Regime) -> None:
        of = certificate["format"], certificate["regime"]
        demand(of == ("relto-proof/1", regime.digest), f"it is not of regime {regime.digest}")
        self.regime, self.properties = regime, certificate["properties"]
        self.held, self.labelled = certificate["held"], [int(n, 16) for n in certificate["labels"]]
        self.consents = {(by, to) for by, to in certificate["consents"]}
        turns = {at for turns in regime.timeline.turns.values() for at in turns}
        self.instants = [certificate["at"]] if "at" in certificate else sorted(turns) or [""]
        self.rank = {m.name: m.rank for s in regime.schemes.values() for m in s.marks}
        self.by_name: dict[Any, list[Mapping[str, Any]]] = {}
        for one in self.properties:
            (stated,) = (stated for form, stated in one.items() if form not in ("id", "text"))
            pair = (stated["originator"], stated["to"]) if "through" in stated else ""
            self.by_name.setdefault(stated.get("agreement", pair), []).append(one)
        self.table, self.standing = cache(self._table), cache(self._standing)
        self.clauses: dict[str, tuple[Agreement, Share | Onward]] = {}
        self.uses: dict[str, list[tuple[str, str]]] = {party: [] for party in regime.parties}
        every = [(a, clause) for a in regime.agreements.values() for clause in a.clauses]
        for agreement, clause in every:
            if isinstance(body := clause.body, Share | Onward):
                cites = f"{agreement.id}/{clause.article}"
                self.clauses[cites] = agreement, body
                by = body.by if isinstance(body, Onward) else body.senders | {body.via or ""}
                for holder, to in product(by - {""}, body.to):
                    self.uses[holder] += [(cites, to)] if holder != to else []

    def run(self) -> None:
        for originator in sorted(self.regime.parties):
            self._number_labels(originator)
            self._check_closed(self.held[originator])

    def _number_labels(self, originator: str) -> None:
        """Label n is the n-th combination of the originator's words, none or one of some."""
        self.originator = originator
        marks = [mark.name for mark in self.regime.schemes[originator].marks]
        topics, about = self.regime.vocabulary.topic_bits, self.regime.vocabulary.subject_bits
        some = [[frozenset(), *(frozenset([one]) for one in names)] for names in (topics, about)]
        self.parts: list[list[Any]] = [marks, *some, list(KINDS)]
        self.every = (1 << prod(map(len, self.parts))) - 1
        self.fitting = cache(self._fitting)

    def _covered(self, named: frozenset[str]) -> frozenset[str]:
        below = tuple(f"{name}." for name in named)
        return named | {t for t in self.regime.vocabulary.topic_bits if t.startswith(below)}

    def _fitting(self, part: int, named: frozenset[str] | None) -> int:
        """The labels of which a part is within: of topics and subjects all, and at least one."""
        if named is None:
            return self.every
        inside, values = self._covered(named), self.parts[part]
        fits = [v in inside if isinstance(v, str) else v and v <= inside for v in values]
        width = prod(map(len, self.parts[part + 1 :]))
        once = sum(((1 << width) - 1) << n * width for n, fit in enumerate(fits) if fit)
        return once * (self.every // ((1 << width * len(values)) - 1))

    # moves: DESIGN §4 (3) to (5) for one source

    def _table(self, guard: str, a: str, b: str) -> dict[str, str]:
        clauses = self.regime.agreements[guard].clauses
        rows = [row for c in clauses if isinstance(c.body, Equate) for row in c.body.rows]
        return {m.name: row[b][0].name for row in rows if a in row and b in row for m in row[a]}

    def _standing(self, needs: frozenset[str]) -> dict[int, bool]:
        """The instants at which all is in force, and whether that begins there."""
        force, instants = self.regime.timeline.in_force, enumerate(self.instants)
        at = {n: n for n, now in instants if all(force(needed, now) for needed in needs)}
        return {n: n - 1 not in at for n in at}

    def _moves(self, held: Held) -> Iterator[Move]:
        holder, basis, mark, _, made = held
        came = self.clauses.get(Citation.parse(basis).clause, (None, None))[1]
        blind = isinstance(came, Share) and came.via == holder and not came.via_reads
        carries = blind and isinstance(came, Share) and holder not in came.to
        for cites, to in self.uses[holder]:
            hows = list(self._hows(held, cites, to))
            if not hows:
                continue
            agreement, body = self.clauses[cites]
            hub = body.via if isinstance(body, Share) and holder in body.senders else None
            path = [holder, to] if hub in (None, holder, to) else [holder, str(hub), to]
            marks, needs = [mark], {agreement.id}
            for leg in pairwise(path):
                guard = body.protected_by.get("-".join(sorted(leg)), agreement.id)
                marks.append(self.table(guard, *leg).get(marks[-1], ""))
                needs.add(guard)
            at = self.standing(frozenset(needs))
            reads = len(path) == 2 or (isinstance(body, Share) and body.via_reads)
            for how in hows if marks[-1] and at else ():
                scope = body.scope
                fits = self.fitting(1, scope.topics) & self.fitting(2, scope.about)
                fits &= self.fitting(3, scope.kinds) & self.fitting(0, None if how else scope.marks)
                readers = {to, *(path[1:2] if reads else []), *([] if carries else [holder])}
                yield (path[1], how + cites, marks[1], reads, made), how + cites, at, readers, fits

    def _hows(self, held: Held, cites: str, to: str) -> Iterator[str]:
        (holder, basis, _, _, made), owner = held, self.originator
        agreement, body = self.clauses[cites]
        granted = (owner, to) in self.consents
        if isinstance(body, Onward):
            same = basis.split("/")[0] == agreement.id and owner in agreement.parties
            first = same and owner not in (holder, to)
        else:
            passes = cites == basis and body.via == holder and to != owner
            first = owner in body.senders and (passes or holder == owner)
            yield from ["own-information+"] if to == owner and made else []
            yield from ["consent+"] if granted and owner != holder else []
        yield from [""] if first and (granted or body.consent == "label") else []

    # closed, and within it nothing forbidden

    def _check_closed(self, listed: list[Any]) -> None:
        sets: dict[Held, dict[int, int]] = {}
        for *held, since in listed:
            sets[tuple(held)] = {range(len(self.instants))[n]: self.labelled[b] for n, b in since}

        def lacks(held: Held, now: int, bits: int) -> int:
            for since, reached in sets.get(held, {}).items():
                bits &= ~reached if since <= now else -1
            return bits

        for mark in (ladder := self.regime.schemes[self.originator].marks):
            below = self.fitting(0, frozenset(m.name for m in ladder if m.rank >= mark.rank))
            start = (self.originator, "", mark.name, True, False)
            demand(not lacks(start, 0, below), f"{start} is missing")
        for held, since in sets.items():
            for now in since if held[3] and held[0] != self.originator else ():
                bits = self._in_any_kind(self.every & ~lacks(held, now, self.every))
                for mark in self.regime.schemes[held[0]].marks:
                    made = (held[0], held[1], mark.name, True, True)
                    above = mark.rank <= self.rank[held[2]]
                    demand(not above or not lacks(made, now, bits), f"{made} is missing")
            for move in self._moves(held):
                target, _, at, _, fits = move
                for now in [n for n, begins in at.items() if begins or n in since]:
                    bits = fits & ~lacks(held, now, fits)
                    demand(not lacks(target, now, bits), f"{target} from {held} is missing")
                for one in self._concerned(held, move) if bits else ():
                    broken = bits & self._forbidden(one, held, move)
                    demand(not broken, f"{one['id']} is broken by {held} to {target}")

    def _in_any_kind(self, bits: int) -> int:
        run = (1 << len(KINDS)) - 1
        return run * (self.every // run & reduce(or_, (bits >> n for n in range(len(KINDS)))))

    def _concerned(self, held: Held, move: Move) -> Iterator[Mapping[str, Any]]:
        """The properties that can speak of the move, found by what they name first."""
        under, after = (Citation.parse(each).agreement for each in (move[1], held[1]))
        for key in ("", under, after, (self.originator, move[0][0])):
            yield from self.by_name.get(key, ())

    def _forbidden(self, one: Mapping[str, Any], held: Held, move: Move) -> int:
        ((to, _, mark, reads, _), cites, _, readers, _), owner = move, self.originator
        agreement, before = (Citation.parse(each).agreement for each in (cites, held[1]))
        breaks = False
        match one:
            case {"only_through": p}:
                allowed = held[0] in p["through"] or agreement in p["unless_under"]
                breaks = (owner, to) == (p["originator"], p["to"]) and not allowed
            case {"stays": p}:
                outside = to not in self.regime.agreements[p["agreement"]].parties
                free = cites.startswith("consent+") or owner in (held[0], to)
                breaks = before == p["agreement"] and outside and not free
            case {"within_scope": p} if agreement == p["agreement"]:
                topics, about = (frozenset(p[k]) if k in p else None for k in ("topics", "about"))
                return self.every & ~(self.fitting(1, topics) & self.fitting(2, about))
            case {"held_only_by": p}:
                breaks = p.get("agreement", agreement) == agreement and to not in p["parties"]
            case {"mark_keeps": _}:
                tables = [self.table(a, owner, to) for a in self.regime.agreements if to != owner]
                marks = [m.name for m in self.regime.schemes[owner].marks]
                own = {m: m for m in marks if to == owner}
                equal = {m: [self.rank[t[m]] for t in (own, *tables) if m in t] for m in marks}
                low = (m for m in marks if equal[m] and self.rank[mark] > max(equal[m]))
                return self.fitting(0, frozenset(low))
            case {"readers_as_listed": _}:
                breaks = reads and to != owner and to not in readers
            case _ if "within_scope" not in one:
                raise ValueError("unknown property")
        return self.every if breaks else 0
