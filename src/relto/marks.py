"""Parties' classification schemes: ladders of marks (DESIGN §2)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from relto.tables import Document, Problems, Table, quoted

__all__ = ["PARTY_PATTERN", "Mark", "Scheme", "decode_scheme", "is_party_code"]

MARKS_PER_SCHEME_MAX = 64
PARTY_PATTERN = r"[A-Z0-9][A-Z0-9_]{0,15}"
_PARTY = re.compile(PARTY_PATTERN + r"\Z")
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,31}\Z")


def is_party_code(text: str) -> bool:
    """Whether `text` can name a party: a trigraph such as KOR, or another short upper-case code."""
    return _PARTY.match(text) is not None


@dataclass(frozen=True, slots=True)
class Mark:
    """One rung of a party's ladder.

    A *lower* rank is a *higher* mark: rank 0 is the top. A mark that stands beside another has
    its rank and is equal to it in every comparison.
    """

    party: str
    code: str
    rank: int
    banner: Mapping[str, str]
    name: str = field(init=False, compare=False, repr=False)  # `KOR:II`, as labels write it

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"{self.party}:{self.code}")


@dataclass(frozen=True, slots=True)
class Scheme:
    """A party's own classification ladder, highest rung first."""

    party: str
    name: Mapping[str, str]
    marks: tuple[Mark, ...]


def decode_scheme(document: Document, party: str, problems: Problems) -> Scheme | None:
    """The scheme in `schemes/<party>.toml`, or None with its errors reported."""
    errors_before = len(problems.errors)
    top = Table(document, (), document.data, problems)
    top.only("party", "name", "mark")
    if not is_party_code(party):
        top.error(None, f"{quoted(party)} is not a party's code; rename the file, as in KOR.toml")
    stated = top.take_text("party", f'the party that the file is named after, "{party}"')
    if stated is not None and stated != party:
        top.error("party", f'party = {quoted(stated)} but the file is named "{party}.toml"')
    name = top.take_texts("name")
    marks: list[Mark] = []
    by_code: dict[str, Mark] = {}
    beside_of: set[str] = set()
    tables = top.tables("mark", required=True, what="[[mark]] tables, highest rung first")
    if len(tables) > MARKS_PER_SCHEME_MAX:
        top.error("mark", f"more than {MARKS_PER_SCHEME_MAX} marks; leave some out")
    rank = -1
    for table in tables[:MARKS_PER_SCHEME_MAX]:
        table.only("code", "banner", "beside")
        code = table.take_text(
            "code", "a mark's code such as II or GOKUHI", accept=lambda c: bool(_CODE.match(c))
        )
        banner = table.take_texts("banner")
        beside = table.take_text("beside", "the code of an earlier mark", required=False)
        if beside is None:
            rank += 1
            its_rank = rank
        elif beside not in by_code or beside in beside_of:
            table.error(
                "beside",
                f"beside = {quoted(beside)} is not an earlier mark that itself stands on a rung",
            )
            continue
        else:
            its_rank = by_code[beside].rank
        if code is None:
            continue
        if code.casefold() in (c.casefold() for c in by_code):
            table.error("code", f"mark {quoted(code)} stands twice; give one another code")
            continue
        mark = Mark(party, code, its_rank, banner)
        by_code[code] = mark
        if beside is not None:
            beside_of.add(code)
        marks.append(mark)
    if len(problems.errors) > errors_before:
        return None
    return Scheme(party, name, tuple(marks))
