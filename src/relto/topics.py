"""Topics as a tree of dotted names, subjects as a set: what items may be about (DESIGN §2)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from relto.tables import Document, Problems, Table, quoted

__all__ = ["Vocabulary", "decode_vocabulary"]

_TOPIC = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){0,7}\Z")
_SUBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")


# Every kind, topic and subject has a bit of its own, so that one integer says what an item is and
# another what a clause covers. That an item has no topic or subject at all has a bit too: a clause
# that names topics does not cover it. Below are the bits of kinds (labels.KIND_BITS).
NO_TOPIC, NO_SUBJECT = 1 << 16, 1 << 17
_FIRST = 1 << 18


@dataclass(frozen=True)
class Vocabulary:
    """The topics and subjects that labels and clauses may name.

    Topics are held as bits of an integer, so that "covers" is one operation. Ancestors of a
    declared topic are topics too.
    """

    topics: tuple[str, ...]
    subjects: tuple[str, ...]
    topic_bits: dict[str, int] = field(init=False, compare=False, repr=False)
    subject_bits: dict[str, int] = field(init=False, compare=False, repr=False)
    any_topic: int = field(init=False, compare=False, repr=False)  # all of them, and none at all
    any_subject: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        names = sorted({a for topic in self.topics for a in _with_ancestors(topic)})
        topics = {name: _FIRST << i for i, name in enumerate(names)}
        first = _FIRST << len(names)
        subjects = {name: first << i for i, name in enumerate(sorted(self.subjects))}
        object.__setattr__(self, "topic_bits", topics)
        object.__setattr__(self, "subject_bits", subjects)
        object.__setattr__(self, "any_topic", NO_TOPIC | sum(topics.values()))
        object.__setattr__(self, "any_subject", NO_SUBJECT | sum(subjects.values()))

    def covered_by(self, topics: Iterable[str]) -> int:
        """Bits of every topic that a clause naming `topics` covers: each one and its descendants.

        >>> v = Vocabulary(("missile.launch", "nuclear"), ())
        >>> v.covered_by(["missile"]) == v.topic_bits["missile"] | v.topic_bits["missile.launch"]
        True
        """
        named = set(topics)
        return sum(
            bit for name, bit in self.topic_bits.items() if named & set(_with_ancestors(name))
        )


def _with_ancestors(topic: str) -> list[str]:
    parts = topic.split(".")
    return [".".join(parts[: n + 1]) for n in range(len(parts))]


def decode_vocabulary(document: Document, problems: Problems) -> Vocabulary | None:
    """The vocabulary in `vocabulary.toml`, or None with its errors reported."""
    errors_before = len(problems.errors)
    top = Table(document, (), document.data, problems)
    top.only("topics", "subjects")
    topics = top.take_names("topics", "topics", required=True, may_be_empty=True) or ()
    subjects = top.take_names("subjects", "subjects", required=True, may_be_empty=True) or ()
    for index, topic in enumerate(topics):
        if not _TOPIC.match(topic):
            top.error(
                "topics",
                f"{quoted(topic)} is not a dotted name such as missile.launch",
                index=index,
            )
    for index, subject in enumerate(subjects):
        if not _SUBJECT.match(subject):
            top.error("subjects", f"{quoted(subject)} is not a code such as PRK", index=index)
    if len(problems.errors) > errors_before:
        return None
    return Vocabulary(topics, subjects)
