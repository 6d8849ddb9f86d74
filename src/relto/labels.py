"""Labels and holdings: who made an item, how it is marked, who may read it, what it is about.

Decoders take parsed JSON and the regime's words, and raise `QuestionError` naming the offending
value (DESIGN §3, §4 (1)). Strings such as `KOR:II` stay strings: they are names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn, Protocol

from relto.errors import QuestionError
from relto.instants import is_instant
from relto.marks import Mark
from relto.tables import quoted
from relto.topics import NO_SUBJECT, NO_TOPIC, Vocabulary

__all__ = [
    "KINDS",
    "SELF",
    "Basis",
    "Consent",
    "Holding",
    "Label",
    "Source",
    "Status",
    "Words",
    "decode_consent",
    "decode_holding",
    "decode_label",
    "decode_status",
    "words_of",
]

KINDS = (
    "report",
    "warning",
    "assessment",
    "imagery",
    "rfi",
    "reply",
    "collection-request",
    "tearline",
    "capability",
)
KIND_BITS = {kind: 1 << i for i, kind in enumerate(KINDS)}  # beside those of Vocabulary
ANY_KIND = sum(KIND_BITS.values())
SELF = "self"
SEQ_MAX = 2**53 - 1
SOURCES_MAX = 256
BASES_PER_SOURCE_MAX = 256
ID_CHARS_MAX = 256


class Words(Protocol):
    """The words that labels may use: a regime, or whatever stands in for one."""

    @property
    def marks(self) -> Mapping[str, Mark]: ...
    @property
    def vocabulary(self) -> Vocabulary: ...
    @property
    def parties(self) -> frozenset[str]: ...
    def knows_article(self, agreement: str, article: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Source:
    """One contribution to an item, under its own originator's policy.

    `item` is `self` for the maker's own part of a derived item, and the item's id for an item
    that is its own single source. `readers` are the parties besides the originator: an empty
    set means nobody else. `matter` has the bits of the item's kind and of the source's topics and
    subjects (topics.py). `held_as` is the mark that the maker stamped on it, in the maker's
    scheme; None for the maker's own.
    """

    item: str
    originator: str
    mark: str
    readers: frozenset[str]
    matter: int
    held_as: str | None


@dataclass(frozen=True, slots=True)
class Label:
    """What is signed about an item. `maker` is its originator, or who made it from others'.

    `sources` has one entry for an item that is its own source; `derived` says which it is.
    `listed` are the parties that the item's own list and that of every source name, its maker and
    originators counted: who may read it, as long as no record changes that.
    """

    id: str
    maker: str
    mark: str
    readers: frozenset[str]
    kind: str
    sources: tuple[Source, ...]
    derived: bool
    exercise: bool
    listed: frozenset[str] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        listed = self.readers.union((self.maker,))
        if self.derived:
            for source in self.sources:
                listed &= source.readers.union((source.originator,))
        object.__setattr__(self, "listed", listed)


class Basis(NamedTuple):
    """One lawful receipt of a source: by clause, by consent or as the holder's own information."""

    agreement: str
    article: str
    how: str  # "clause", "consent" or "own-information"


@dataclass(frozen=True, slots=True)
class Holding:
    """How a holder came by an item: the holder's own record, never part of the label."""

    held_as: str | None
    basis: Mapping[str, tuple[Basis, ...]]
    stamped_seq: int | None


# one object for equal ones: quick to look up
_basis = lru_cache(maxsize=4096)(Basis)
_receipts = lru_cache(maxsize=4096)(lambda *receipts: receipts)

NO_HOLDING = Holding(None, {}, None)


@dataclass(frozen=True, slots=True)
class Consent:
    """An originator's approval (`grant`) or refusal to let parties read an item."""

    by: str
    item: str
    to: frozenset[str]
    seq: int
    at: str
    grant: bool
    expires: str | None


@dataclass(frozen=True, slots=True)
class Status:
    """An originator's recall of an item, or its new mark."""

    by: str
    item: str
    seq: int
    at: str
    mark: str | None
    recalled: bool


def _bad(message: str) -> NoReturn:
    raise QuestionError(message)


def only(data: Any, what: str, known: frozenset[str], required: frozenset[str]) -> dict[str, Any]:
    """`data` as an object with no key but `known` and every key of `required`."""
    if type(data) is not dict:
        _bad(f"{what} is {quoted(data)}, not an object")
    keys = data.keys()
    if not keys <= known:
        extra = sorted(keys - known)[0]
        _bad(f"unknown key {quoted(extra)} in {what}; its keys are {', '.join(sorted(known))}")
    if not keys >= required:
        _bad(f'{what} has no "{sorted(required - keys)[0]}"')
    return data


def text(data: dict[str, Any], key: str, what: str) -> str:
    value = data[key]
    if type(value) is not str or not value or len(value) > ID_CHARS_MAX:
        _bad(f"{key} of {what} is {quoted(value)}, not a text of 1 to {ID_CHARS_MAX} characters")
    return value


def instant_of(data: dict[str, Any], key: str, what: str) -> str:
    value = data[key]
    if type(value) is not str or not is_instant(value):
        _bad(f"{key} of {what} is {quoted(value)}, not an instant such as 2015-01-05T00:00:00Z")
    return value


def party_of(data: dict[str, Any], key: str, words: Words, what: str) -> str:
    value = data[key]
    if type(value) is not str or value not in words.parties:
        known = ", ".join(sorted(words.parties)[:20])
        _bad(f"unknown party {quoted(value)} in {key} of {what}; parties are {known}")
    return value


def mark_of(data: dict[str, Any], key: str, words: Words, party: str, what: str) -> str:
    value = data[key]
    mark = words.marks.get(value) if type(value) is str else None
    if mark is None:
        prefix = value.partition(":")[0] if type(value) is str else ""
        owner = prefix if prefix in words.parties else party
        known = ", ".join(m.name for m in words.marks.values() if m.party == owner)
        _bad(f"unknown mark {quoted(value)} in {key} of {what}; {owner} has {known}")
    if mark.party != party:
        known = ", ".join(m.name for m in words.marks.values() if m.party == party)
        _bad(f"{key} of {what} is {quoted(value)}, not a mark of {party}; it has {known}")
    return mark.name


def _seq(data: dict[str, Any], key: str, what: str) -> int:
    value = data[key]
    if type(value) is not int or not 0 <= value <= SEQ_MAX:
        _bad(f"{key} of {what} is {quoted(value)}, not a whole number from 0 to 2^53-1")
    return value


def _parties(data: dict[str, Any], key: str, words: Words, what: str) -> frozenset[str]:
    value = data[key]
    if type(value) is not list:
        _bad(f"{key} of {what} is {quoted(value)}, not a list of parties")
    for name in value:
        if type(name) is not str or name not in words.parties:
            known = ", ".join(sorted(words.parties)[:20])
            _bad(f"unknown party {quoted(name)} in {key} of {what}; parties are {known}")
    return frozenset(value)


def _readers(data: dict[str, Any], words: Words, originator: str, what: str) -> frozenset[str]:
    readers = _parties(data, "releasable_to", words, what)
    if len(readers) != len(data["releasable_to"]):
        _bad(f"a party stands twice in releasable_to of {what}; name it once")
    if originator in readers:
        _bad(f"releasable_to of {what} names its originator {quoted(originator)}; leave it out")
    return readers


_NOUNS = {"topics": "topic", "about": "subject"}


def _bits(data: dict[str, Any], key: str, bits: Mapping[str, int], what: str) -> int:
    value = data[key]
    if type(value) is not list:
        _bad(f"{key} of {what} is {quoted(value)}, not a list")
    mask = 0
    for name in value:
        bit = bits.get(name) if type(name) is str else None
        if bit is None:
            _bad(f"unknown {_NOUNS[key]} {quoted(name)} in {what}; see vocabulary.toml")
        mask |= bit
    return mask


def _matter(data: dict[str, Any], vocabulary: Vocabulary, what: str) -> int:
    topics = _bits(data, "topics", vocabulary.topic_bits, what)
    subjects = _bits(data, "about", vocabulary.subject_bits, what)
    return (topics or NO_TOPIC) | (subjects or NO_SUBJECT)


def _exercise(data: dict[str, Any], what: str) -> bool:
    if "exercise" not in data:
        return False
    if data["exercise"] is not True:
        _bad(f"exercise of {what} is {quoted(data['exercise'])}; it is true, or left out")
    return True


_LABEL_REQUIRED = frozenset(
    ["id", "originator", "mark", "releasable_to", "kind", "topics", "about"]
)
_LABEL_KEYS = _LABEL_REQUIRED | {"exercise", "sources"}
_SOURCE_REQUIRED = frozenset(["item", "originator", "mark", "releasable_to", "topics", "about"])
_SOURCE_KEYS = _SOURCE_REQUIRED | {"held_as", "exercise"}


def decode_label(data: Any, words: Words) -> Label:
    """The label in `data`. Raises QuestionError on anything DESIGN §3 calls malformed."""
    what = "item"
    only(data, what, _LABEL_KEYS, _LABEL_REQUIRED)
    item = text(data, "id", what)
    if item == SELF:
        _bad('no item has the id "self"; give its own')
    maker = party_of(data, "originator", words, what)
    mark = mark_of(data, "mark", words, maker, what)
    readers = _readers(data, words, maker, what)
    kind = data["kind"]
    if type(kind) is not str or kind not in KIND_BITS:
        _bad(f"unknown kind {quoted(kind)}; kinds are {', '.join(KINDS)}")
    matter = KIND_BITS[kind] | _matter(data, words.vocabulary, what)
    exercise = _exercise(data, what)
    if "sources" not in data:
        own = Source(item, maker, mark, readers, matter, None)
        return Label(item, maker, mark, readers, kind, (own,), False, exercise)
    sources = _decode_sources(data["sources"], words, item, maker, kind, exercise)
    for source in sources:
        floor = source.mark if source.held_as is None else source.held_as
        if words.marks[mark].rank > words.marks[floor].rank:
            _bad(f"mark of item {quoted(mark)} lies below {quoted(floor)} of {source.item}")
        if source.matter & ~(matter | NO_TOPIC | NO_SUBJECT):
            _bad(f"topics and about of item leave out some of source {quoted(source.item)}")
    return Label(item, maker, mark, readers, kind, sources, True, exercise)


def _decode_sources(
    data: Any, words: Words, item: str, maker: str, kind: str, exercise: bool
) -> tuple[Source, ...]:
    if type(data) is not list or not data:
        _bad(f"sources is {quoted(data)}, not a list with at least the maker's own")
    if len(data) > SOURCES_MAX:
        _bad(f"more than {SOURCES_MAX} sources; derive in steps")
    sources: list[Source] = []
    seen: set[str] = set()
    for entry in data:
        only(entry, "source", _SOURCE_KEYS, _SOURCE_REQUIRED)
        name = text(entry, "item", "source")
        what = f"source {quoted(name)}"
        if name in seen:
            _bad(f"{what} stands twice in sources")
        if name == item:
            _bad(f"{what} is the item itself; the maker's own part is called self")
        seen.add(name)
        originator = party_of(entry, "originator", words, what)
        if name == SELF and originator != maker:
            _bad(f"originator of {what} is {quoted(originator)}, not the maker {quoted(maker)}")
        if name != SELF and originator == maker:
            _bad(f"{what} is of the maker {quoted(maker)}; what is the maker's belongs to self")
        held_as = None
        if name == SELF and "held_as" in entry:
            _bad("held_as stands in self; the maker holds its own by its mark")
        if name != SELF:
            if "held_as" not in entry:
                _bad(f'{what} has no "held_as", the mark that {maker} stamped on it')
            held_as = mark_of(entry, "held_as", words, maker, what)
        if _exercise(entry, what) != exercise:
            _bad(
                f"exercise of {what} differs from the item's; an exercise never mixes with the real"
            )
        sources.append(
            Source(
                name,
                originator,
                mark_of(entry, "mark", words, originator, what),
                _readers(entry, words, originator, what),
                KIND_BITS[kind] | _matter(entry, words.vocabulary, what),
                held_as,
            )
        )
    if SELF not in seen:
        _bad('sources has no "self", the maker\'s own part')
    return tuple(sources)


_HOLDING_KEYS = frozenset(["held_as", "basis", "stamped_seq"])
_NOTHING: frozenset[str] = frozenset()
_BY_CLAUSE = frozenset(["agreement", "article"])
_BY_CONSENT = frozenset(["consent"])
_AS_OWN = frozenset(["own-information"])


def decode_holding(data: Any, words: Words, label: Label, holder: str) -> Holding:
    """The holding of `label` by `holder`; `data` None stands for no holding stated."""
    if data is None:
        data = {}
    only(data, "holding", _HOLDING_KEYS, _NOTHING)
    is_maker = holder == label.maker
    if is_maker and "held_as" in data:
        _bad(f"held_as stands in the holding of the maker {quoted(holder)}; leave it out")
    if not is_maker and "held_as" not in data:
        _bad(f'holding has no "held_as", the mark that {holder} stamped on the item')
    held_as = None if is_maker else mark_of(data, "held_as", words, holder, "holding")
    stamped_seq = _seq(data, "stamped_seq", "holding") if "stamped_seq" in data else None
    basis = data.get("basis", {})
    if type(basis) is not dict:
        _bad(f"basis of holding is {quoted(basis)}, not an object")
    if not basis:
        return Holding(held_as, {}, stamped_seq)
    originators = {source.item: source.originator for source in label.sources}
    receipts: dict[str, tuple[Basis, ...]] = {}
    for item, entries in basis.items():
        if item not in originators:
            _bad(f"basis names {quoted(item)}, which is no source of the item")
        if originators[item] == holder:
            _bad(f"basis names {quoted(item)}, which is {holder}'s own; leave it out")
        if type(entries) is not list or len(entries) > BASES_PER_SOURCE_MAX:
            _bad(
                f"basis of {quoted(item)} is not a list of at most {BASES_PER_SOURCE_MAX} receipts"
            )
        receipts[item] = _receipts(*(_decode_basis(entry, words, item) for entry in entries))
    return Holding(held_as, receipts, stamped_seq)


def _decode_basis(entry: Any, words: Words, item: str) -> Basis:
    what = f"basis of {quoted(item)}"
    if type(entry) is not dict:
        _bad(f"{what} holds {quoted(entry)}, not an object")
    keys = entry.keys()
    if keys == _BY_CLAUSE:
        found = _basis(text(entry, "agreement", what), text(entry, "article", what), "clause")
    elif keys in (_BY_CONSENT, _AS_OWN):
        how = next(iter(keys))
        agreement, slash, article = text(entry, how, what).partition("/")
        if not slash:
            _bad(f"{what} has {quoted(entry[how])}, not an agreement/article")
        found = _basis(agreement, article, how)
    else:
        _bad(
            f"{what} has the keys {', '.join(sorted(keys))}; it needs agreement and article, "
            "or consent, or own-information"
        )
    if not words.knows_article(found.agreement, found.article):
        _bad(
            f"{what} names {quoted(f'{found.agreement}/{found.article}')}, "
            "which is no share or onward article"
        )
    return found


_CONSENT_REQUIRED = frozenset(["by", "item", "to", "seq", "at", "grant"])
_CONSENT_KEYS = _CONSENT_REQUIRED | {"expires"}
_STATUS_REQUIRED = frozenset(["by", "item", "at", "seq"])
_STATUS_KEYS = _STATUS_REQUIRED | {"mark", "recalled"}


def decode_consent(data: Any, words: Words) -> Consent:
    """One consent record of a question (DESIGN §3)."""
    only(data, "consent", _CONSENT_KEYS, _CONSENT_REQUIRED)
    if type(data["grant"]) is not bool:
        _bad(f"grant of consent is {quoted(data['grant'])}, not true or false")
    return Consent(
        by=party_of(data, "by", words, "consent"),
        item=text(data, "item", "consent"),
        to=_parties(data, "to", words, "consent"),
        seq=_seq(data, "seq", "consent"),
        at=instant_of(data, "at", "consent"),
        grant=data["grant"],
        expires=instant_of(data, "expires", "consent") if "expires" in data else None,
    )


def decode_status(data: Any, words: Words) -> Status:
    """One status record of a question (DESIGN §3)."""
    only(data, "status", _STATUS_KEYS, _STATUS_REQUIRED)
    by = party_of(data, "by", words, "status")
    recalled = data.get("recalled", False)
    if type(recalled) is not bool:
        _bad(f"recalled of status is {quoted(recalled)}, not true or false")
    return Status(
        by=by,
        item=text(data, "item", "status"),
        seq=_seq(data, "seq", "status"),
        at=instant_of(data, "at", "status"),
        mark=mark_of(data, "mark", words, by, "status") if "mark" in data else None,
        recalled=recalled,
    )


def words_of(mask: int, bits: Mapping[str, int]) -> list[str]:
    """The names whose bits are in `mask`, sorted."""
    return sorted(name for name, bit in bits.items() if bit & mask)
