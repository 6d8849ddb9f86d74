"""A real node's journal in an auditor's hands."""

import json
from pathlib import Path

from e2e.nodes import Nodes
from relto.links import unix_request


def test_an_auditor_gets_all_of_a_journal_denials_and_the_export_itself(
    carried: Nodes, tmp_path: Path
) -> None:
    refused = carried.share("KOR", b"x", to="JPN", topic="paired", check=False)
    assert refused.code == 1
    ca = str(carried.keys("KOR") / "ca.crt")
    earlier, later = tmp_path / "earlier", tmp_path / "later"
    carried.at("KOR", "journal", "export", "--out", str(earlier))
    entries = [json.loads(line)["entry"] for line in earlier.read_bytes().splitlines()[1:-1]]
    assert entries == [
        {k: v for k, v in entry.items() if k not in ("number", "link")}
        for entry in carried.journal("KOR")[: len(entries)]
    ]
    assert entries[-1]["event"] == "export"
    assert ("decide", "deny") in {(e["event"], e.get("decision")) for e in entries}
    assert earlier.stat().st_mode & 0o077 == 0
    carried.at("KOR", "journal", "export", "--out", str(later))
    shown = carried.run(
        "journal", "verify", str(later), "--since", str(earlier), "--ca", ca, "--json", check=True
    ).json
    assert (shown["continues"], shown["vouched"]) == (len(entries), True)
    out = carried.at("KOR", "journal", "export").out
    assert len(out.splitlines()) > len(later.read_bytes().splitlines())
    again = carried.at("KOR", "journal", "export", "--out", str(later), check=False)
    assert (again.code, "File exists" in again.err) == (2, True)


def test_lines_are_given_only_to_who_has_an_export_in_the_journal(carried: Nodes) -> None:
    for export in (0, 1, 10**14):
        response = unix_request(
            carried.node("KOR") / "node.sock", "GET", f"/journal/export/{export}?after=0",
            timeout_s=10,
        )  # fmt: skip
        assert (response.status, b"no export of yours ends there" in response.body) == (409, True)
