"""What a change of a regime does: to its clauses, to its properties, and to what may be given."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

from relto.clauses import Agreement, Clause
from relto.errors import RegimeError
from relto.proofs.fixpoint import Reach
from relto.proofs.model import Bits, Classes, SourceClass
from relto.proofs.properties import Property, decode_stated, default_properties
from relto.proofs.proving import Proof, prove
from relto.regime import Regime

__all__ = ["Change", "Difference", "Permission", "difference_of"]


@dataclass(frozen=True, slots=True)
class Change:
    """Something that stands in one regime alone, or otherwise: `before` and `after` as text.

    Empty: it is not there. `what` names it: a clause by its citation, a scheme, a word, a time.
    """

    what: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Permission:
    """What may be given in one of the two alone, with an example of the label.

    `gained`: in the second. The example's holder has it by `basis` (empty: its own).
    """

    gained: bool
    originator: str
    path: tuple[str, ...]
    cites: str
    basis: str
    example: SourceClass


@dataclass(frozen=True, slots=True)
class Difference:
    """`properties`: those that hold in one alone, with how they stand in each; None: not stated."""

    changes: tuple[Change, ...]
    properties: tuple[tuple[Property, bool | None, bool | None], ...]
    permissions: tuple[Permission, ...]


def difference_of(
    before: Regime, after: Regime, at: str | None = None, stated: Iterable[Property] | None = None
) -> Difference:
    """What differs between two regimes; with `at` as far as moves at that instant go.

    `stated` are properties of the first; None: those made from each. A property that names what
    the other regime does not have is not stated there.
    """
    own = default_properties(before) if stated is None else tuple(stated)
    new = default_properties(after) if stated is None else own
    wanted = {one.form: one for one in (*own, *new)}
    proofs = [prove(r, _expressible(r, wanted.values()), at) for r in (before, after)]
    holds = [{v.property.form: v.holds for v in proof.verdicts} for proof in proofs]
    return Difference(
        tuple(_changes(before, after)),
        tuple(
            (one, holds[0].get(form), holds[1].get(form))
            for form, one in wanted.items()
            if holds[0].get(form) != holds[1].get(form)
        ),
        tuple(_permissions(*proofs)),
    )


def _expressible(regime: Regime, properties: Iterable[Property]) -> tuple[Property, ...]:
    """Those whose words the regime has."""
    found: list[Property] = []
    for one in properties:
        with suppress(RegimeError):
            found += decode_stated("", [one.shown()], regime)
    return tuple(found)


# clauses, words and times


def _changes(before: Regime, after: Regime) -> Iterator[Change]:
    for name, texts in _texts(before, after).items():
        if texts[0] != texts[1]:
            yield Change(name, *texts)


def _texts(before: Regime, after: Regime) -> dict[str, tuple[str, str]]:
    """Everything by its name, as text, before and after."""
    both: list[dict[str, str]] = []
    for regime in (before, after):
        found: dict[str, str] = {}
        for name, text in _named(regime):  # equate and protect clauses may share an article
            found[name] = f"{found[name]} | {text}" if name in found else text
        both.append(found)
    return {name: (both[0].get(name, ""), both[1].get(name, "")) for name in both[0] | both[1]}


def _named(regime: Regime) -> Iterator[tuple[str, str]]:
    yield "topics", ", ".join(regime.vocabulary.topics)
    yield "subjects", ", ".join(regime.vocabulary.subjects)
    for party, scheme in sorted(regime.schemes.items()):
        yield f"marks of {party}", ", ".join(f"{m.code} ({m.rank})" for m in scheme.marks)
    for agreement in sorted(regime.agreements.values(), key=lambda a: a.id):
        yield agreement.id, _frame(agreement)
        yield f"{agreement.id} in force", ", ".join(regime.timeline.turns[agreement.id])
        for clause in agreement.clauses:
            name = type(clause.body).__name__.lower()
            yield f"{agreement.id}/{clause.article} {name}", _body(clause)


def _frame(agreement: Agreement) -> str:
    parts = [agreement.kind, f"parties {_plain(agreement.parties)}"]
    return "; ".join([*parts, f"rests on {_plain(agreement.rests_on)}"])


def _body(clause: Clause) -> str:
    """The clause's keys that say anything, in their order."""
    stated = [(f.name, _plain(getattr(clause.body, f.name))) for f in fields(clause.body)]
    return "; ".join(f"{name} {text}" for name, text in stated if text)


def _plain(value: Any) -> str:
    if value is None or value is False:
        return ""
    if isinstance(value, frozenset | tuple | list):
        parts = [_plain(one) for one in value]
        return ", ".join(sorted(parts) if isinstance(value, frozenset) else parts)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {_plain(one)}" for key, one in sorted(value.items()))
    if hasattr(value, "name"):
        return str(value.name)
    if hasattr(value, "topics"):
        stated = [(f.name, _plain(getattr(value, f.name))) for f in fields(value)]
        return "; ".join(f"{name} {text}" for name, text in stated if text)
    return str(value)


# what may be given


def _permissions(before: Proof, after: Proof) -> Iterator[Permission]:
    for party in sorted({*before.reaches, *after.reaches}):
        old, new = (proof.reaches.get(party) for proof in (before, after))
        yield from _only_in(old, new, party, gained=False)
        yield from _only_in(new, old, party, gained=True)


def _only_in(
    one: Reach | None, other: Reach | None, originator: str, *, gained: bool
) -> Iterator[Permission]:
    """What the one permits and the other does not: an example for each path and clause."""
    if one is None:
        return
    elsewhere = _by_use(other)
    told: set[tuple[tuple[str, ...], str]] = set()
    uses = sorted(_by_use(one).items(), key=lambda use: use[0][2] != "")  # its own first
    for (path, cites, basis), bits in uses:
        there = elsewhere.get((path, cites, basis), 0)
        if other is not None and other.classes.every != one.classes.every:
            there = _translated(other.classes, there, one.classes)
        only = bits & ~there
        if only and (path, cites) not in told:
            told.add((path, cites))
            example = next(one.classes.members(only))
            yield Permission(gained, originator, path, cites, basis, example)


def _by_use(reach: Reach | None) -> dict[tuple[tuple[str, ...], str, str], Bits]:
    """The labels that can be given along a path by a clause, by what their holder has them by."""
    found: dict[tuple[tuple[str, ...], str, str], Bits] = {}
    for move, bits in reach.moves.items() if reach else ():
        key = (move.path, move.cites, move.source.basis)
        found[key] = found.get(key, 0) | bits
    return found


def _translated(old: Classes, bits: Bits, new: Classes) -> Bits:
    """The same labels by the numbers of other classes; those that these do not have fall away."""
    same = set(old.members(bits))
    return sum(1 << n for n, one in enumerate(new.every) if one in same)
