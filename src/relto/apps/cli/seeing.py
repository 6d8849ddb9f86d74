"""What a signer sees before signing: clauses, what they do, what no chain can do, what changed."""

from collections.abc import Iterator

from relto.apps.cli.differing import told
from relto.explanations import in_language
from relto.instants import moment
from relto.instruments import Instrument
from relto.proofs.differing import difference_of
from relto.proofs.properties import default_properties
from relto.proofs.proving import prove
from relto.proofs.stories import account
from relto.regime import Regime, as_if_in_force
from relto.terms import Words, agreement_of

__all__ = ["differs", "seen"]


def seen(
    regime: Regime,
    words: Words,
    instrument: Instrument,
    earlier: Instrument | None,
    at: str,
    language: str,
) -> Iterator[str]:
    """Line by line; beside the regime, or an `earlier` version where one was seen."""
    agreement = agreement_of(instrument.terms, words)
    yield in_language(agreement.title, language)
    for clause in agreement.clauses:
        yield f"  {clause.article}  {in_language(clause.text, language)}"
    yield ""
    after = as_if_in_force(regime, agreement, moment(at))
    before = regime
    if earlier is not None:
        before = as_if_in_force(regime, agreement_of(earlier.terms, words), moment(at))
    yield "since the file seen last:" if earlier is not None else "what it makes possible:"
    yield from (f"  {line}" for line in told(difference_of(before, after, at)))
    yield ""
    yield from account(prove(after, default_properties(after), at), language)
    yield ""
    yield f"digest: {instrument.digest}"


def differs(
    regime: Regime, words: Words, earlier: Instrument, later: Instrument, at: str
) -> Iterator[str]:
    """What differs between two versions of an agreement, and what that does, were they in force."""
    before, after = (
        as_if_in_force(regime, agreement_of(one.terms, words), moment(at))
        for one in (earlier, later)
    )
    yield from told(difference_of(before, after, at))
