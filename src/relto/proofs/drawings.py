"""A chain as a drawing: one box for each way of holding, one arrow for each step, as SVG."""

import re
from collections.abc import Iterator
from html import escape

from relto.proofs.chains import Chain
from relto.proofs.stories import begun, marked, stepped
from relto.regime import Regime

__all__ = ["drawing"]

WIDTH = 980
BOX_WIDTH, BOX_HEIGHT = 260, 56
MARGIN, GAP = 24, 44
COLUMNS = 88  # of Latin letters in a line of text
WIDE_FROM = 0x2E80  # CJK: characters that take two columns
COLOURS = ("#1f4e79", "#7a1f1f", "#1f5f3f", "#5b3f7a", "#7a5a1f", "#3f3f3f")


_PIECE = re.compile(r"[\u2e80-\uffff]\s*|[^\s\u2e80-\uffff]+\s*")


def drawing(regime: Regime, chain: Chain, language: str) -> str:
    """An SVG document that stands alone: boxes by party, beside each what was done to get there."""
    parties = dict.fromkeys([chain.originator, *(step.held.holder for step in chain.steps)])
    colours = {party: COLOURS[n % len(COLOURS)] for n, party in enumerate(parties)}
    before = chain.begins.holder
    boxes = [(before, marked(regime, chain.begins.mark), begun(regime, chain, language))]
    for step in chain.steps:
        text = stepped(regime, before, step, language)
        boxes.append((step.held.holder, marked(regime, step.held.mark), text))
        before = step.held.holder
    height = 2 * MARGIN + len(boxes) * (BOX_HEIGHT + GAP) - GAP
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="14">',
            f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
            *(line for n, box in enumerate(boxes) for line in _box(n, *box, colours[box[0]])),
            "</svg>\n",
        ]
    )


def _box(number: int, party: str, mark: str, text: str, colour: str) -> Iterator[str]:
    top = MARGIN + number * (BOX_HEIGHT + GAP)
    middle = MARGIN + BOX_WIDTH // 2
    if number:
        end = top - 4
        yield (
            f'<path d="M{middle} {top - GAP}V{end}M{middle - 5} {end - 8}L{middle} {end}'
            f'L{middle + 5} {end - 8}" fill="none" stroke="#333333" stroke-width="2"/>'
        )
    yield (
        f'<rect x="{MARGIN}" y="{top}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="4" '
        f'fill="{colour}"/>'
    )
    yield (
        f'<text x="{middle}" y="{top + 24}" text-anchor="middle" fill="#ffffff" '
        f'font-weight="bold">{escape(party)}</text>'
    )
    yield (
        f'<text x="{middle}" y="{top + 44}" text-anchor="middle" fill="#ffffff" '
        f'font-size="12">{escape(mark)}</text>'
    )
    for line, words in enumerate(_lines(f"{number + 1}. {text}")):
        yield (
            f'<text x="{MARGIN + BOX_WIDTH + 20}" y="{top + 18 + 18 * line}" '
            f'fill="#111111">{escape(words)}</text>'
        )


def _lines(text: str) -> Iterator[str]:
    """The text in lines: broken between words, and anywhere in scripts without spaces."""
    line, used = "", 0
    for piece in _PIECE.findall(text):
        width = sum(2 if ord(c) >= WIDE_FROM else 1 for c in piece)
        if line and used + width > COLUMNS:
            yield line
            line, used = "", 0
        line, used = (line + piece).lstrip(), used + width
    yield line
