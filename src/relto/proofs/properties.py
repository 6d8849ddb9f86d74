"""What a regime should and should not permit, in the words of the pact (docs/spec/proof.md).

A property is read from TOML, or made from the regime itself where nobody wrote any. Each says of
a permitted move for which classes of source label it breaks the property.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from relto.clauses import Citation, Onward, Scope, Share
from relto.errors import RegimeError
from relto.labels import KINDS
from relto.proofs.model import Bits, Classes, Model, Move
from relto.regime import Regime
from relto.tables import Document, Problems, Table, parse, quoted

__all__ = [
    "FORMS",
    "NAMES",
    "HeldOnlyBy",
    "MarkKeeps",
    "Never",
    "OnlyThrough",
    "Place",
    "Possible",
    "Property",
    "ReadersAsListed",
    "Stays",
    "WithinScope",
    "decode_properties",
    "decode_stated",
    "default_properties",
    "places",
]

FORMAT = "relto-properties/1"
PROPERTIES_MAX = 10_000
_Names = frozenset[str]
Place = tuple[str, ...]
EVERYWHERE: Place = ("everywhere",)


def places(originator: str, move: Move) -> tuple[Place, ...]:
    """Where a move of the originator's information stands: a property looks at its own place."""
    return (
        EVERYWHERE,
        ("under", Citation.parse(move.cites).agreement),
        ("after", Citation.parse(move.source.basis).agreement),
        ("to", originator, move.target.holder),
    )


@dataclass(frozen=True, slots=True)
class OnlyThrough:
    """Nothing of `originator` reaches `to` except from `through`, or under `unless_under`."""

    originator: str
    to: str
    through: _Names
    unless_under: _Names = frozenset()

    @property
    def place(self) -> Place:
        return ("to", self.originator, self.to)

    def forbids(self, model: Model, classes: Classes, move: Move) -> Bits:
        breaks = (
            classes.originator == self.originator
            and move.target.holder == self.to
            and move.source.holder not in self.through
            and Citation.parse(move.cites).agreement not in self.unless_under
        )
        return classes.all if breaks else 0


@dataclass(frozen=True, slots=True)
class Stays:
    """What was given under `agreement` stays with its parties unless its originator consents.

    Back to its originator it may go.
    """

    agreement: str

    @property
    def place(self) -> Place:
        return ("after", self.agreement)

    def forbids(self, model: Model, classes: Classes, move: Move) -> Bits:
        breaks = (
            classes.originator not in (move.source.holder, move.target.holder)
            and Citation.parse(move.source.basis).agreement == self.agreement
            and move.target.holder not in model.regime.agreements[self.agreement].parties
            and Citation.parse(move.cites).how != "consent"
        )
        return classes.all if breaks else 0


@dataclass(frozen=True, slots=True)
class WithinScope:
    """Nothing off these subjects and topics travels under `agreement`. Absent: any."""

    agreement: str
    about: _Names | None = None
    topics: _Names | None = None

    @property
    def scope(self) -> Scope:
        return Scope(self.about, self.topics, None, None)

    @property
    def place(self) -> Place:
        return ("under", self.agreement)

    def forbids(self, model: Model, classes: Classes, move: Move) -> Bits:
        if Citation.parse(move.cites).agreement != self.agreement:
            return 0
        return classes.all & ~model.open_to(classes, self.scope, marks=False)


@dataclass(frozen=True, slots=True)
class HeldOnlyBy:
    """Nobody but `parties` comes to hold anything; with `agreement`, anything by that alone."""

    parties: _Names
    agreement: str | None = None

    @property
    def place(self) -> Place:
        return ("under", self.agreement) if self.agreement else EVERYWHERE

    def forbids(self, model: Model, classes: Classes, move: Move) -> Bits:
        under = self.agreement is None or Citation.parse(move.cites).agreement == self.agreement
        return classes.all if under and move.target.holder not in self.parties else 0


@dataclass(frozen=True, slots=True)
class MarkKeeps:
    """A mark never falls below its equivalent, as the agreements between the two equate them.

    Where several do, below the lowest of these. An originator that gets its own back holds it
    under its own mark or above.
    """

    @property
    def place(self) -> Place:
        return EVERYWHERE

    def forbids(self, model: Model, classes: Classes, move: Move) -> Bits:
        low = model.ranks[move.target.mark]
        found = 0
        for mark, floor in model.floors(classes.originator, move.target.holder).items():
            if low > floor:
                found |= classes.covered("mark", frozenset([mark]))
        return found


@dataclass(frozen=True, slots=True)
class ReadersAsListed:
    """No one but the originator widens who reads: whoever reads is named, or consented to.

    As that holds for each source, two whose reader lists do not meet make an item for nobody.
    """

    @property
    def place(self) -> Place:
        return EVERYWHERE

    def forbids(self, model: Model, classes: Classes, move: Move) -> Bits:
        reader = move.target.holder
        named = reader == classes.originator or reader in move.readers
        return 0 if named or not move.target.reads else classes.all


@dataclass(frozen=True, slots=True)
class Possible:
    """Something of `originator` does reach `to` and is read there. Absent: of any such kind."""

    originator: str
    to: str
    mark: str | None = None
    kind: str | None = None
    topic: str | None = None
    about: str | None = None
    releasable_to: _Names | None = None

    @property
    def scope(self) -> Scope:
        return Scope(_one(self.about), _one(self.topic), _one(self.kind), _one(self.mark))

    def meets(self, classes: Classes, move: Move) -> Bits:
        """The classes that it is about, if the move brings them where they must come."""
        if move.target.holder != self.to or not move.target.reads:
            return 0
        scope = self.scope
        return (
            classes.covered("mark", scope.marks)
            & classes.covered("kind", scope.kinds)
            & classes.covered("topics", scope.topics)
            & classes.covered("about", scope.about)
        )


Never = OnlyThrough | Stays | WithinScope | HeldOnlyBy | MarkKeeps | ReadersAsListed
Form = Never | Possible
FORMS: Mapping[str, type[Form]] = {
    "only_through": OnlyThrough,
    "stays": Stays,
    "within_scope": WithinScope,
    "held_only_by": HeldOnlyBy,
    "mark_keeps": MarkKeeps,
    "readers_as_listed": ReadersAsListed,
    "possible": Possible,
}
NAMES: Mapping[type[Form], str] = {form: name for name, form in FORMS.items()}


@dataclass(frozen=True, slots=True)
class Property:
    """A property by its id; `text` has its own words, if it has any, by language."""

    id: str
    form: Form
    text: Mapping[str, str]

    def shown(self) -> dict[str, Any]:
        """As in a properties file, for certificates: lists sorted, what is absent left out."""
        values = {f.name: getattr(self.form, f.name) for f in fields(self.form)}
        said = {
            name: sorted(value) if isinstance(value, frozenset) else value
            for name, value in values.items()
            if value is not None
        }
        return {"id": self.id, NAMES[type(self.form)]: said}


def _one(name: str | None) -> _Names | None:
    return None if name is None else frozenset([name])


def default_properties(regime: Regime) -> tuple[Property, ...]:
    """What parties would ask first, made from the regime's own agreements."""
    made = [*_by_agreement(regime)]
    made += [
        ("marks-keep", MarkKeeps()),
        ("readers-as-listed", ReadersAsListed()),
    ]
    unique: dict[str, Form] = {}
    for name, form in made:
        unique.setdefault(name, form)
    return tuple(Property(name, form, {}) for name, form in unique.items())


def _by_agreement(regime: Regime) -> Iterator[tuple[str, Form]]:
    for agreement in sorted(regime.agreements.values(), key=lambda a: a.id):
        bodies = [c.body for c in agreement.clauses if isinstance(c.body, Share)]
        for body in bodies:
            yield from _through(regime, body)
        if not bodies:
            continue
        if len(agreement.parties) == 2:
            yield f"{agreement.id}-stays", Stays(agreement.id)
        scopes = [c.body.scope for c in agreement.clauses if isinstance(c.body, Share | Onward)]
        about = _union(s.about for s in scopes)
        topics = _union(s.topics for s in scopes)
        if about is not None or topics is not None:
            yield f"{agreement.id}-scope", WithinScope(agreement.id, about, topics)
        yield f"{agreement.id}-parties", HeldOnlyBy(agreement.parties, agreement.id)


def _through(regime: Regime, body: Share) -> Iterator[tuple[str, Form]]:
    """For a clause with a hub: only by that hub, and really."""
    hub = body.via
    if hub is None:
        return
    for sender in sorted(body.senders - {hub}):
        for to in sorted(body.to - {hub, sender}):
            direct = frozenset(_direct(regime, sender, to))
            name = f"{sender}-{to}-only-through-{hub}".lower()
            yield name, OnlyThrough(sender, to, frozenset([hub]), direct)
            yield f"{sender}-{to}-possible".lower(), _shown_by(regime, sender, to, body.scope)


def _shown_by(regime: Regime, sender: str, to: str, scope: Scope) -> Possible:
    """That the clause is of use: a warning, if it covers any, of its narrowest first topic."""
    kind = "warning" if scope.kinds is None or "warning" in scope.kinds else min(scope.kinds)
    named = min(scope.topics, default=None) if scope.topics else None
    within = [t for t in regime.vocabulary.topics if named and (t + ".").startswith(named + ".")]
    topic = min(within, default=named)
    about = min(scope.about) if scope.about else None
    return Possible(sender, to, kind=kind, topic=topic, about=about)


def _direct(regime: Regime, sender: str, to: str) -> Iterator[str]:
    """The agreements under which the one may give to the other without a hub between."""
    for agreement in regime.agreements.values():
        for clause in agreement.clauses:
            body = clause.body
            if not isinstance(body, Share) or body.via not in (None, sender, to):
                continue
            if sender in body.senders and to in body.to:
                yield agreement.id


def _union(sets: Iterable[_Names | None]) -> _Names | None:
    """All names of the sets; None if one of them covers any."""
    found: set[str] = set()
    for each in sets:
        if each is None:
            return None
        found |= each
    return frozenset(found)


# decoding


def decode_properties(file: str, data: bytes, regime: Regime) -> tuple[Property, ...]:
    """The properties in a TOML file. Raises RegimeError with every error, by file and line."""
    problems = Problems()
    document = parse(file, data, problems)
    if document is None:
        raise RegimeError(tuple(problems.errors))
    top = Table(document, (), document.data, problems)
    top.only("format", "property")
    top.take_choice("format", [FORMAT])
    return _decode_all(top, regime)


def decode_stated(file: str, properties: object, regime: Regime) -> tuple[Property, ...]:
    """The properties that a certificate states. Raises RegimeError with every error."""
    document = Document(file, {"property": properties}, {})
    return _decode_all(Table(document, (), document.data, Problems()), regime)


def _decode_all(top: Table, regime: Regime) -> tuple[Property, ...]:
    found: dict[str, Property] = {}
    tables = top.tables("property", required=True, what="[[property]] tables")
    if len(tables) > PROPERTIES_MAX:
        top.error("property", f"more than {PROPERTIES_MAX} properties; split the file")
    for table in tables[:PROPERTIES_MAX]:
        one = _decode_property(table, regime)
        if one is not None and one.id in found:
            table.error("id", f"{quoted(one.id)} stands twice; give one another id")
        elif one is not None:
            found[one.id] = one
    if top.problems.errors:
        raise RegimeError(tuple(top.problems.errors))
    return tuple(found.values())


def _decode_property(table: Table, regime: Regime) -> Property | None:
    errors_before = len(table.problems.errors)
    table.only("id", "text", *FORMS)
    name = table.take_text("id", "a short name such as kor-jpn-only-through-usa")
    text = table.take_texts("text") if "text" in table.data else {}
    stated = [form for form in FORMS if form in table.data]
    if len(stated) != 1:
        table.error(None, f"exactly one of {', '.join(FORMS)} belongs in a property")
        return None
    form = _Decoding(table.table(stated[0]), regime).form(FORMS[stated[0]])
    if len(table.problems.errors) > errors_before or name is None or form is None:
        return None
    return Property(name, form, text)


class _Decoding:
    """One form's table: every value is a word of the regime."""

    def __init__(self, table: Table, regime: Regime) -> None:
        self.table = table
        self.regime = regime

    def form(self, kind: type[Form]) -> Form | None:
        errors_before = len(self.table.problems.errors)
        keys = [f.name for f in fields(kind)]
        self.table.only(*keys)
        required = {f.name for f in fields(kind) if f.default is MISSING}
        values = {}
        for key in keys:
            if key in self.table.data or key in required:
                value = self._value(key, kind)
                if value is not None:
                    values[key] = value
        return kind(**values) if len(self.table.problems.errors) == errors_before else None

    def _value(self, key: str, kind: type[Form]) -> Any:
        regime = self.regime
        parties, agreements = sorted(regime.parties), sorted(regime.agreements)
        subjects, topics = regime.vocabulary.subject_bits, regime.vocabulary.topic_bits
        if key in ("through", "parties", "releasable_to"):
            return self._names(key, parties, "parties", may_be_empty=key == "releasable_to")
        if key == "unless_under":
            return self._names(key, agreements, "agreements")
        if kind is WithinScope and key in ("about", "topics"):
            return self._names(key, subjects if key == "about" else topics, key)
        known: Mapping[str, Iterable[str]] = {
            "originator": parties, "to": parties, "agreement": agreements, "about": subjects,
            "topic": topics, "kind": KINDS, "mark": list(regime.marks),
        }  # fmt: skip
        return self._known(key, known[key])

    def _known(self, key: str, known: Iterable[str]) -> str | None:
        some = ", ".join(sorted(known)[:20])
        return self.table.take_text(key, f"one of {some}", accept=lambda value: value in known)

    def _names(
        self, key: str, known: Iterable[str], what: str, *, may_be_empty: bool = False
    ) -> _Names | None:
        names = self.table.take_names(key, what, required=True, may_be_empty=may_be_empty)
        for index, name in enumerate(names or ()):
            if name not in known:
                some = ", ".join(sorted(known)[:20])
                self.table.error(
                    key, f"unknown {quoted(name)} in {key}; there are {some}", index=index
                )
        return None if names is None else frozenset(names)
