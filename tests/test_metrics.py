"""What counts, and when: only what is durable."""

from collections.abc import Callable

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from relto.errors import CallerError
from relto.metrics import Tallies
from relto.ports import Transaction
from relto.stores import MemoryStore
from relto.stores.writer import Writer

WAIT_S = 10

CODES = ["outside-topic", "mark-not-covered"]


def values(tallies: Tallies) -> dict[str, float]:
    """Samples by name and labels, but for the times at which counters were made."""
    text = generate_latest(tallies.registry).decode()
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith(("_created", "_bucket", "_sum"))
    }


def test_entries_count_once_they_are_durable() -> None:
    tallies = Tallies()
    tallies.job_begins()
    tallies.entry({"event": "delivered", "item": "ab", "party": "JPN"})
    assert values(tallies) == {
        "relto_commit_seconds_count": 0.0,
        "relto_commit_jobs_total": 0.0,
        "relto_commits_shed_total": 0.0,
    }
    tallies.committed([True], 0.01)
    assert values(tallies) == {
        "relto_commit_seconds_count": 1.0,
        "relto_commit_jobs_total": 1.0,
        "relto_commits_shed_total": 0.0,
        "relto_events_total delivered": 1.0,
        "relto_deliveries_total JPN": 1.0,
    }


def test_what_a_full_disk_undid_does_not_count() -> None:
    tallies = Tallies()
    tallies.job_begins()
    tallies.entry({"event": "read", "item": "ab", "by": "kim"})
    tallies.shed()
    tallies.job_begins()
    tallies.committed([True], 0.01)
    assert values(tallies) == {
        "relto_commit_seconds_count": 1.0,
        "relto_commit_jobs_total": 1.0,
        "relto_commits_shed_total": 1.0,
    }


def test_what_a_refused_job_wrote_does_not_count() -> None:
    """Through the writer and a store: the job's savepoint was undone, its commit was not."""
    tallies = Tallies()
    broken: list[BaseException] = []
    writer = Writer(MemoryStore(), on_broken=broken.append, observer=tallies)

    def job(refuse: bool) -> Callable[[Transaction], None]:
        def run(tx: Transaction) -> None:
            tx.journal_append(b"{}", bytes(32))
            tallies.entry({"event": "read", "item": "ab", "by": "kim"})
            if refuse:
                raise CallerError("no")

        return run

    done = writer.submit_all([job(True), job(False), job(True)], 1).result(WAIT_S)
    writer.close()
    assert [isinstance(result, CallerError) for result in done] == [True, False, True]
    assert broken == []
    assert values(tallies) == {
        "relto_commit_seconds_count": 1.0,
        "relto_commit_jobs_total": 1.0,
        "relto_commits_shed_total": 0.0,
        "relto_events_total read": 1.0,
    }


def test_refusals_count_by_code_and_by_whom() -> None:
    tallies = Tallies()
    tallies.job_begins()
    tallies.entry({"event": "decide", "decision": "deny", "codes": CODES, "to": "JPN"})
    tallies.entry({"event": "decide", "decision": "allow", "cites": [], "to": "JPN"})
    tallies.entry({"event": "refuse", "codes": ["marks-differ"]})
    tallies.entry({"event": "refused", "codes": ["refused-by-officer"], "party": "USA"})
    tallies.entry({"event": "blocked", "codes": ["on-hold"], "to": "USA"})
    tallies.committed([True], 0.01)
    found = {k: v for k, v in values(tallies).items() if k.startswith("relto_refusals_total")}
    assert found == {
        "relto_refusals_total decision outside-topic": 1.0,
        "relto_refusals_total decision mark-not-covered": 1.0,
        "relto_refusals_total decision on-hold": 1.0,
        "relto_refusals_total node marks-differ": 1.0,
        "relto_refusals_total party refused-by-officer": 1.0,
    }
