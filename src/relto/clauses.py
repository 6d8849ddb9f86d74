"""What an agreement says, as values: its clauses, and the legs and equal marks they name."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from relto.marks import Mark

__all__ = [
    "Agreement",
    "Citation",
    "Clause",
    "Equate",
    "Lasting",
    "Onward",
    "Pair",
    "Protect",
    "Scope",
    "Share",
    "Signatory",
    "equivalences",
    "leg_key",
    "path_of",
]

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Citation:
    """A citation taken apart. `how` is empty, "consent" or "own-information".

    >>> Citation.parse("own-information+tisa-2014/4")
    Citation(how='own-information', agreement='tisa-2014', article='4')
    """

    how: str
    agreement: str
    article: str

    @classmethod
    def parse(cls, text: str) -> "Citation":
        """Total: what is no citation names no clause. An article may have a plus sign."""
        channel, _, article = text.partition("/")
        how, _, agreement = channel.rpartition("+")
        return cls(how, agreement, article)

    @property
    def clause(self) -> str:
        """The clause that it names, without what else it stands on."""
        return f"{self.agreement}/{self.article}"

    def as_basis(self) -> dict[str, str]:
        """The entry of a holder's basis for a receipt under it (DESIGN §3)."""
        if self.how:
            return {self.how: self.clause}
        return {"agreement": self.agreement, "article": self.article}


def leg_key(a: str, b: str) -> str:
    """The name of a leg in `protected_by`: its ends in alphabetical order.

    >>> leg_key("USA", "KOR")
    'KOR-USA'
    """
    return f"{min(a, b)}-{max(a, b)}"


@dataclass(frozen=True, slots=True)
class Scope:
    """What a share or onward clause covers. None means any; an empty set is never built."""

    about: frozenset[str] | None
    topics: frozenset[str] | None
    kinds: frozenset[str] | None
    marks: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Share:
    """Originators in `senders` may give to `to`, directly or through the hub `via`."""

    senders: frozenset[str]
    to: frozenset[str]
    via: str | None
    via_reads: bool
    protected_by: Mapping[str, str]
    scope: Scope
    consent: str  # "label" or "item"
    release: str  # "review" or "automatic"

    def legs(self) -> Iterator[tuple[str, str]]:
        """Every leg that the clause can take, as (from, to), without repeats."""
        found: set[Pair] = set()
        for sender in sorted(self.senders):
            for receiver in sorted(self.to):
                if sender != receiver:
                    path = path_of(sender, self.via, receiver)
                    found.update(pairwise(path))
        if self.via is not None:  # the hub's own leg, also for what it holds by consent
            found.update((self.via, receiver) for receiver in self.to - {self.via})
        return iter(sorted(found))


@dataclass(frozen=True, slots=True)
class Onward:
    """Parties in `by` may pass on to `to` what they received under this agreement."""

    by: frozenset[str]
    to: frozenset[str]
    protected_by: Mapping[str, str]
    scope: Scope
    consent: str
    release: str

    def legs(self) -> Iterator[tuple[str, str]]:
        return iter(sorted((a, b) for a in self.by for b in self.to if a != b))


@dataclass(frozen=True, slots=True)
class Equate:
    """Rows of equal marks: party -> its marks, the first being the one to stamp."""

    rows: tuple[Mapping[str, tuple[Mark, ...]], ...]


@dataclass(frozen=True, slots=True)
class Protect:
    """Duties on a receiver of anything under the agreement; they outlive it."""

    receipt_within_h: int | None
    return_or_destroy: bool
    report_compromise_within_h: int | None
    two_person_from: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Clause:
    """One permission or duty, cited as `agreement/article`."""

    article: str
    text: Mapping[str, str]
    body: Share | Onward | Equate | Protect
    line: int


@dataclass(frozen=True, slots=True)
class Signatory:
    """Who signs for a party: name and office, as texts by language. Public facts, for people."""

    name: Mapping[str, str]
    office: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Lasting:
    """How an agreement begins and ends by its own words.

    It begins with the last signature (`signature`), when the depositary has all signed copies
    (`copies`), when all have notified that they are ready (`notifications`), or at an instant
    once all have signed (`date`). A notice of termination is given `notice_days` before it takes
    effect. With `term_months` it lasts so long, and as long again where it `renews` by silence.
    """

    begins: str = "signature"
    begins_at: str = ""
    notice_days: int = 0
    term_months: int | None = None
    renews: bool = False


@dataclass(frozen=True, slots=True)
class Agreement:
    """A signed document. `kind` "agreement" binds; an "arrangement" does not.

    `supersedes` is the digest of the terms that these take the place of, or empty.
    """

    id: str
    kind: str
    parties: frozenset[str]
    depositary: str
    rests_on: tuple[str, ...]
    title: Mapping[str, str]
    ca: Mapping[str, str]
    clauses: tuple[Clause, ...]
    lasting: Lasting = Lasting()
    signatories: Mapping[str, Signatory] = field(default_factory=dict)
    supersedes: str = ""

    @property
    def file(self) -> str:
        return f"agreements/{self.id}.toml"


def path_of(sender: str, via: str | None, receiver: str) -> tuple[str, ...]:
    """A clause whose via is the receiver or the holder is direct too (DESIGN §2)."""
    if via is None or via in (sender, receiver):
        return (sender, receiver)
    return (sender, via, receiver)


def equivalences(agreement: Agreement) -> dict[Pair, dict[str, Mark]]:
    """For each ordered pair of parties: mark of the first -> the mark to stamp for the second."""
    found: dict[Pair, dict[str, Mark]] = {}
    for clause in agreement.clauses:
        if not isinstance(clause.body, Equate):
            continue
        for row in clause.body.rows:
            for a, marks in row.items():
                for b, stamps in row.items():
                    if a != b and stamps:
                        table = found.setdefault((a, b), {})
                        for mark in marks:
                            table[mark.name] = stamps[0]
    return found
