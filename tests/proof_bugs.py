"""Faults planted in the decision or in the prover's model, which the other of the two must show."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import bugs
from exchange_bugs import saying
from relto.proofs.model import Model, Route

__all__ = ["BUGS"]

BUGS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "decision: equivalence tables are chained": bugs.chained_tables,
    "decision: rests_on is forgotten": bugs.pillars_forgotten,
    "decision: an empty reader list is dropped": bugs.empty_reader_list_dropped,
    "decision: an expired consent is taken": bugs.expired_consent_taken,
    "decision: a hub need not be a reader": bugs.hub_reads_unasked,
    "decision: a hub passes on anybody's information": bugs.hub_passes_on_anything,
    "model: a missing row is passed over": saying(
        Route.stamps, "return None\n", "stamp = next(iter(table.values()))\n"
    ),
    "model: every leg is mapped by the first table": saying(
        Route.stamps, "for table in self.tables:", "for table in self.tables[:1] * 2:"
    ),
    "model: what protects a leg may be out of force": saying(
        Model._route, "together([agreement.id, *guards])", "together([agreement.id])"
    ),
    "model: an empty reader list means everybody": saying(
        Model.__init__, "if readers is None else readers", "if not readers else readers"
    ),
    "model: a hub that reads need not be a reader": saying(
        Model.moves, "        if hub_reads:\n", "        if False:\n"
    ),
    "model: a hub that does not read must be a reader": saying(
        Model.carries, "and not body.via_reads", "and body.via_reads"
    ),
    "model: whose information it is, is not asked of a hub": saying(
        Model._standing,
        "if originator in _senders(route) and self._may_pass(originator, route)",
        "if self._may_pass(originator, route)",
    ),
    "model: a consent lifts the scope": saying(
        Model.moves, "marks=not how)", "marks=not how) if not how else classes.all"
    ),
    "model: the marks of a clause bind a consent too": saying(
        Model.moves, "marks=not how)", "marks=True)"
    ),
    "model: a clause that asks for a consent goes without": saying(
        Model._consented, "given or", "True or"
    ),
    "model: own information goes home only if it was made here": saying(
        Model._standing, "if held.made:", "if not held.basis:"
    ),
}
