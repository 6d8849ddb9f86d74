"""What has become of an agreement: its moves one after the other, as words and as a picture."""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from relto.clauses import Agreement
from relto.explanations import in_language
from relto.instruments import Checked
from relto.lives import Life, life_at, moved
from relto.phrases import LANGUAGES, LASTING, LIVES, MOVED

__all__ = ["Entry", "chronicle", "lasting_words", "picture", "told"]

WIDTH, MARGIN, ROW = 980, 28, 46
LINE_X, TEXT_X = 250, 280
COLOURS = {
    "draft": "#9a9a9a",
    "open": "#7a5a1f",
    "signed": "#1f4e79",
    "in-force": "#1f5f3f",
    "suspended": "#b06a00",
    "withdrawn": "#7a1f1f",
    "ended": "#7a1f1f",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that happened, and the state that the agreement was in from then on.

    `move` is empty for what time alone did: a beginning, an end.
    """

    at: str
    state: str
    party: str = ""
    move: str = ""
    made_at: str = ""  # where the depositary received it later
    effective: str = ""


def chronicle(checked: Checked, at: str) -> tuple[Entry, ...]:
    """All that happened up to the instant `at`, in order; what time did stands where it did it."""
    found: list[Entry] = []
    life = Life(checked.agreement)
    for deposit, move in checked.history:
        if deposit.at > at:
            break
        later = moved(life, move, deposit.at)
        found += _by_time(life, later, deposit.at)
        made_at = move.at if move.at != deposit.at else ""
        entry = Entry(deposit.at, later.state, move.party, move.move, made_at, move.effective)
        found.append(entry)
        life = later
    return (*found, *_by_time(life, life_at(life, max(at, life.last_at))))


def _by_time(before: Life, after: Life, moved_at: str = "") -> Iterator[Entry]:
    """What began or ended between the two because its time had come, and not with the move."""
    for at, event in after.changes[len(before.changes) :]:
        if event == "in-force" and before.phase == "signed" and at != moved_at:
            yield Entry(at, event)
        elif event in ("terminated", "lapsed"):
            yield Entry(at, "ended")


def lasting_words(agreement: Agreement) -> dict[str, list[str]]:
    """How it begins and ends, in sentences by language."""
    lasting = agreement.lasting
    keys = [lasting.begins]
    if lasting.term_months is not None:
        keys.append("renews" if lasting.renews else "lapses")
    keys.append("notice" if lasting.notice_days else "notice-at-once")
    values = {
        "depositary": agreement.depositary,
        "begins_at": lasting.begins_at,
        "notice_days": lasting.notice_days,
        "term_months": lasting.term_months,
    }
    return {
        language: [in_language(LASTING[key], language).format(**values) for key in keys]
        for language in LANGUAGES
    }


def told(entries: tuple[Entry, ...], language: str) -> Iterator[str]:
    """A line for each entry."""
    for entry in entries:
        yield f"{entry.at}  {_words(entry, language)}  [{_said(entry.state, language)}]"


def picture(checked: Checked, entries: tuple[Entry, ...], language: str) -> str:
    """An SVG document that stands alone: time runs downwards, its line as the state is coloured."""
    top = MARGIN + 30
    height = top + len(entries) * ROW + MARGIN
    title = in_language(checked.agreement.title, language)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="14">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{MARGIN}" y="{MARGIN}" fill="#111111" font-weight="bold">{escape(title)}</text>',
    ]
    for number, entry in enumerate(entries):
        middle = top + number * ROW + ROW // 2
        parts += _row(middle, entry, language)
    return "\n".join([*parts, "</svg>\n"])


def _row(middle: int, entry: Entry, language: str) -> Iterator[str]:
    colour = COLOURS[entry.state]
    yield (
        f'<path d="M{LINE_X} {middle}V{middle + ROW}" stroke="{colour}" stroke-width="6" '
        'fill="none"/>'
    )
    yield f'<circle cx="{LINE_X}" cy="{middle}" r="7" fill="{colour}"/>'
    yield (
        f'<text x="{LINE_X - 20}" y="{middle + 5}" text-anchor="end" fill="#111111">'
        f"{escape(entry.at)}</text>"
    )
    yield (
        f'<text x="{TEXT_X}" y="{middle + 1}" fill="#111111">{escape(_words(entry, language))}'
        "</text>"
    )
    yield (
        f'<text x="{TEXT_X}" y="{middle + 17}" fill="{colour}" font-size="12">'
        f"{escape(_said(entry.state, language))}</text>"
    )


def _words(entry: Entry, language: str) -> str:
    if not entry.move:
        return _said("began" if entry.state == "in-force" else "came-to-end", language)
    words = f"{entry.party}: {in_language(MOVED[entry.move], language)}"
    more = []
    if entry.made_at:
        more.append(f"{_said('made-at', language)} {entry.made_at}")
    if entry.effective:
        more.append(f"{_said('takes-effect', language)} {entry.effective}")
    return f"{words} ({'; '.join(more)})" if more else words


def _said(key: str, language: str) -> str:
    return in_language(LIVES[key], language)
