"""The prover's model as constrained Horn clauses, for solvers that nobody here wrote.

SMT-LIB 2.6 text. Each way of holding is a predicate over instant and label; `false` follows if a
property is broken. A solver either derives it, or gives an interpretation of the predicates that
is closed under every clause: `obligations` lets another solver check that, a clause at a time.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from relto.labels import KINDS
from relto.proofs.fixpoint import Instants
from relto.proofs.model import Held, Model, Move
from relto.proofs.properties import Form, MarkKeeps, Possible, WithinScope
from relto.timeline import Turns

__all__ = ["Horn", "horn_of"]

VARIABLES = ("t", "m", "s", "a", "k")
"""Instant, and of the label: mark, topic, subject and kind; each by its number, 0 for none."""
_DECLARED = " ".join(f"({name} Int)" for name in (*VARIABLES, "t2", "k2"))


@dataclass(frozen=True)
class Horn:
    """`predicates` over `VARIABLES`, and clauses as (body, head), where t2 and k2 are free too."""

    predicates: tuple[str, ...]
    clauses: tuple[tuple[str, str], ...]

    def text(self) -> str:
        """The whole question: `sat` if `false` cannot be derived."""
        sorts = " ".join("Int" for _ in VARIABLES)
        return "\n".join(
            [
                "(set-logic HORN)",
                *(f"(declare-fun {name} ({sorts}) Bool)" for name in self.predicates),
                *(f"(assert (forall ({_DECLARED}) (=> {b} {h})))" for b, h in self.clauses),
                "(check-sat)\n",
            ]
        )

    def obligations(self, definitions: str) -> str:
        """For each clause a `(check-sat)`: `unsat` if the definitions are closed under it."""
        questions = [
            f"(push 1)\n(assert (and {body} (not {head})))\n(check-sat)\n(pop 1)"
            for body, head in self.clauses
        ]
        constants = [f"(declare-const {name} Int)" for name in (*VARIABLES, "t2", "k2")]
        return "\n".join(["(set-logic ALL)", definitions, *constants, *questions, ""])


def horn_of(model: Model, originator: str, instants: Instants, form: Form) -> Horn:
    """The clauses of one originator's information and one property.

    Of what must be possible, `false` can be derived if it is.
    """
    return _Writer(model, originator, instants, form).write()


class _Writer:
    def __init__(self, model: Model, originator: str, instants: Instants, form: Form) -> None:
        self.model, self.instants, self.form = model, instants, form
        self.classes = model.classes(originator)
        vocabulary = model.regime.vocabulary
        self.words: dict[str, list[str]] = {
            "m": [mark.name for mark in model.regime.schemes[originator].marks],
            "s": ["", *vocabulary.topic_bits],
            "a": ["", *vocabulary.subject_bits],
            "k": list(KINDS),
        }
        self.numbers: dict[Held, int] = {}
        self.clauses: list[tuple[str, str]] = []
        self.waiting: list[Held] = []

    def write(self) -> Horn:
        scheme = self.model.regime.schemes[self.classes.originator]
        for mark in scheme.marks:
            below = [m.name for m in scheme.marks if m.rank >= mark.rank]
            label = [self._among("m", below)]
            label += [f"(<= 0 {v} {len(self.words[v]) - 1})" for v in ("s", "a", "k")]
            begins = Held(self.classes.originator, "", mark.name)
            self._clause(["(= t 0)", *label], self._held(begins))
        while self.waiting:
            self._from(self.waiting.pop())
        names = tuple(f"h{n}" for n in self.numbers.values())
        return Horn(names, tuple(self.clauses))

    def _clause(self, body: list[str], head: str) -> None:
        self.clauses.append((f"(and {' '.join(body)})", head))

    def _held(self, held: Held, instant: str = "t", kind: str = "k") -> str:
        if held not in self.numbers:
            self.numbers[held] = len(self.numbers)
            self.waiting.append(held)
        return f"(h{self.numbers[held]} {instant} m s a {kind})"

    def _from(self, held: Held) -> None:
        """What follows from holding it so: waiting, making, moving, and what is bad of that."""
        here = self._held(held)
        last = len(self.instants.every) - 1
        self._clause([here, f"(< t t2) (<= t2 {last})"], self._held(held, "t2"))
        if held.reads and held.holder != self.classes.originator:
            for mark in self.model.regime.schemes[held.holder].marks:
                if mark.rank <= self.model.ranks[held.mark]:
                    made = Held(held.holder, held.basis, mark.name, made=True)
                    kinds = f"(<= 0 k2 {len(KINDS) - 1})"
                    self._clause([here, kinds], self._held(made, kind="k2"))
        for turns, move, _ in self.model.moves(self.classes, held):
            body = [here, self._standing(turns), *self._scope(move)]
            self._clause(body, self._held(move.target))
            bad = self._bad(move)
            if bad is not None:
                self._clause([*body, bad], "false")

    def _standing(self, turns: Turns) -> str:
        changes = [*self.instants.changes(turns), len(self.instants.every)]
        spans = [f"(<= {a} t {b - 1})" for a, b in zip(changes[::2], changes[1::2], strict=False)]
        return _any(spans)

    def _scope(self, move: Move) -> Iterator[str]:
        scope = self.model.scope_of(move.cites)
        for variable, inside in (
            ("m", scope.marks), ("s", scope.topics), ("a", scope.about), ("k", scope.kinds),
        ):  # fmt: skip
            if inside is not None:
                yield self._among(variable, inside)

    def _bad(self, move: Move) -> str | None:
        """For which labels the move breaks the property; None: for none."""
        form, every = self.form, self.classes.all
        if isinstance(form, Possible):
            if not form.meets(self.classes, move):
                return None
            named = (("m", form.mark), ("k", form.kind), ("s", form.topic), ("a", form.about))
            return _all([self._among(v, [one]) for v, one in named if one is not None])
        bits = form.forbids(self.model, self.classes, move)
        if not bits or bits == every:
            return "true" if bits else None
        if isinstance(form, MarkKeeps):
            low = self.model.ranks[move.target.mark]
            floors = self.model.floors(self.classes.originator, move.target.holder)
            return self._among("m", [mark for mark, floor in floors.items() if low > floor])
        assert isinstance(form, WithinScope)  # noqa: S101  # all else forbids all labels or none
        about, topics = form.about, self.model.covered_topics(form.topics)
        inside = [self._among(v, n) for v, n in (("a", about), ("s", topics)) if n is not None]
        return f"(not {_all(inside)})"

    def _among(self, variable: str, some: Iterable[str]) -> str:
        """That a variable is the number of one of some words: as spans, which solvers like.

        Marks of others, which no label of this originator has, fall away.
        """
        words = self.words[variable]
        numbers = sorted(words.index(word) for word in set(some) & set(words))
        spans: list[list[int]] = []
        for number in numbers:
            if spans and spans[-1][1] == number - 1:
                spans[-1][1] = number
            else:
                spans.append([number, number])
        return _any([f"(<= {a} {variable} {b})" for a, b in spans])


def _any(some: list[str]) -> str:
    return "false" if not some else some[0] if len(some) == 1 else f"(or {' '.join(some)})"


def _all(some: list[str]) -> str:
    return "true" if not some else some[0] if len(some) == 1 else f"(and {' '.join(some)})"
