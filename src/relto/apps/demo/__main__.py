"""`make demo`: December 2014 and after, played on real events by three nodes on loopback.

Prints a story, and exits non-zero if anything in it did not happen as it should.
"""

import asyncio
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relto.apps.demo.coalition import Coalition, Outcome
from relto.apps.demo.signing import Desks
from relto.keys import open_key_folder, read_passphrase
from relto.links import Client, KeyFile, LinkError, client_context

PARTIES = {"JPN": ("sato", "abe"), "KOR": ("kim", "lee"), "USA": ("smith", "jones")}
LINKS = [("KOR", "USA"), ("JPN", "USA")]  # Seoul and Tokyo have no line to each other
NAMES = {"KOR": "Seoul", "JPN": "Tokyo", "USA": "Washington"}


class Surprise(Exception):  # the story went another way
    """Something did not happen as it should."""


class Story:
    """Tells what happens, and checks it."""

    def __init__(self, nodes: Coalition, events: Mapping[str, Any]) -> None:
        self.nodes = nodes
        self.events = events
        self.checks = 0
        self.titles: dict[str, str] = {}
        self.started = time.monotonic()

    # telling

    def heading(self, text: str) -> None:
        print(f"\n== {text}")

    def say(self, text: str) -> None:
        print(f"   {text}", flush=True)

    def check(self, fine: bool, text: str) -> None:
        self.checks += 1
        if not fine:
            raise Surprise(text)

    def show(self, text: str) -> None:
        for line in text.rstrip().splitlines():
            print(f"   | {line}")

    # doing

    def at(self, instant: str, words: str) -> None:
        self.nodes.set_clock(instant)
        self.heading(f"{instant[:10]}: {words}")

    def report(self, event_id: str, title: str) -> Path:
        """A report on an event of the table, as a file; only what the table says is in it."""
        event = self.events["event"][event_id]
        kind = self.events["kind"][event["kind"]]
        site = self.events["site"][event["site"]]
        when = event.get("at") or f"{event['local_date']} (local date, {event['local_offset']})"
        lines = [
            title,
            "",
            f"event      {event_id}, {kind['name']['en']}",
            f"when       {when}",
            f"where      {site['name']['en']} ({event['lat_udeg']}, {event['lon_udeg']} µdeg)",
        ]
        for key, words in (("type", "type"), ("distance_km", "distance"), ("apogee_km", "apogee")):
            if key in event:
                lines.append(f"{words:<10} {event[key]}")
        lines.append(f"source     {event['source']}")
        file = self.nodes.folder / f"{event_id}-{len(self.titles)}.txt"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return file

    def share(self, party: str, file: Path, title: str, event_id: str, **options: str) -> Outcome:
        """`relto share` at a party's node, with the topics and subjects of the event."""
        kind = self.events["kind"][self.events["event"][event_id]["kind"]]
        words = [f"--topic={topic}" for topic in kind["topics"]]
        words += [f"--about={subject}" for subject in kind["about"]]
        words += [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        return self.nodes.at(
            party, "share", str(file), "--title", title, *words, "--json", check=False
        )

    def shared(self, party: str, file: Path, title: str, event_id: str, **options: str) -> str:
        """The id of an item that was shared."""
        outcome = self.share(party, file, title, event_id, **options)
        self.check(outcome.code == 0, outcome.err or outcome.out)
        item = str(outcome.json["id"])
        self.titles[item] = title
        self.say(f"{NAMES[party]} writes: “{title}”, {outcome.json['banner']}, item {item[:12]}")
        return item

    def refused(self, outcome: Outcome, code: str, words: str) -> None:
        """The command was refused, and for this reason among those given."""
        self.check(outcome.code == 1, f"not refused: {outcome.out or outcome.err}")
        denied = outcome.json["refusals"][0]
        reasons = [r for r in denied["reasons"] if r["code"] == code]
        self.check(bool(reasons), f"refused for another reason: {denied['reasons']}")
        reason = next((r for r in reasons if "tisa" in r.get("cites", "")), reasons[0])
        cites = f" by {reason['cites']}" if "cites" in reason else ""
        self.say(f"{words}: REFUSED, {code}{cites}")

    def approve(self, party: str, item: str, to: str, officer: str) -> None:
        self.nodes.wait_for_review(party, item, to)
        self.nodes.approve(party, item, to, officer)
        self.say(f"disclosure officer {officer} of {NAMES[party]} signs the release to {NAMES[to]}")

    def delivered(self, party: str, item: str, to: str) -> Any:
        """Until the destination's receipt is back at `party`; the item as it shows there."""
        shown = self.nodes.wait_for(party, item, to, "delivered")
        self.check(
            any(a["record"] == "receipt" and a["party"] == to for a in shown["answers"]),
            "delivered without the destination's receipt",
        )
        return shown

    def marks(self, party: str, item: str) -> str:
        shown = self.nodes.at(party, "item", "show", item, "--json").json
        return " → ".join(b["banner"] for b in shown["banners"])


PILLARS = {"gsomia-kor-usa-1987": ("KOR", "USA"), "gsomia-jpn-usa-2007": ("JPN", "USA")}
OWN = {  # by party: agreements it is in, and those that these stand on without it
    "JPN": (["gsomia-jpn-usa-2007", "gsomia-jpn-kor-2012", "tisa-2014"], ["gsomia-kor-usa-1987"]),
    "KOR": (["gsomia-kor-usa-1987", "gsomia-jpn-kor-2012", "tisa-2014"], ["gsomia-jpn-usa-2007"]),
    "USA": ([*PILLARS, "tisa-2014"], []),
}


def the_papers(story: Story, desks: Desks) -> None:
    """What there was before: two agreements with Washington, and one that was called off."""
    story.heading("the papers: what stands between the three before the pact")
    for agreement, parties in PILLARS.items():
        at = "2014-06-01T00:00:00Z"
        desks.draft("USA", agreement, at)
        desks.send(agreement, "USA", [p for p in parties if p != "USA"])
        for party in parties:
            desks.sign(party, agreement, at)
        others = [p for p in parties if p != "USA"]
        desks.deposit("USA", agreement, at, others)
        desks.send(agreement, "USA", others)
        state = desks.status(parties[0], agreement, at)["state"]
        story.check(state == "in-force", f"{agreement} is {state}")
        other = NAMES[others[0]]
        story.say(f"{agreement}: {other} and Washington sign it anew in this form; it is in force")
    desks.extract("KOR", "gsomia-kor-usa-1987", "JPN")
    desks.extract("JPN", "gsomia-jpn-usa-2007", "KOR")
    story.say("Tokyo and Seoul show each other an extract of theirs: equal marks, no permissions")

    agreement = "gsomia-jpn-kor-2012"
    desks.draft("KOR", agreement, "2014-06-26T00:00:00Z")
    desks.send(agreement, "KOR", ["JPN"])
    desks.by("KOR", agreement, "2014-06-29T06:10:00Z", "move", "withdrawn")
    desks.deposit("KOR", agreement, "2014-06-29T06:10:00Z", [])
    desks.send(agreement, "KOR", ["JPN"])
    signing = "2014-06-29T07:00:00Z"
    refused = desks.sign("JPN", agreement, signing, check=False)
    story.check(refused.code == 2 and "is withdrawn" in refused.err, f"signed: {refused.err}")
    story.say("the pact of 2012 once more: Seoul calls it off within the hour before its signing;")
    story.say("Tokyo wants to sign all the same: REFUSED, it is withdrawn for good")


def the_signing(story: Story, desks: Desks) -> None:
    """December 2014: each at home, on different days."""
    pact = "tisa-2014"
    story.heading("2014-12-23 to 29: nobody meets; each signs at home, on its own key")
    digest = desks.digest("USA", pact, "2014-12-22T00:00:00Z")
    for party in ("KOR", "JPN"):
        story.check(desks.digest(party, pact, "2014-12-22T00:00:00Z") == digest,
                    f"{party} has other terms")  # fmt: skip
    story.say(f"three copies, one digest, read out on the telephone: {digest[:8]} …")
    desks.sign("USA", pact, "2014-12-23T15:00:00Z")
    story.say("23 December: Washington signs")
    copy = desks.copy("KOR", pact)
    true = copy.read_bytes()
    copy.write_bytes(true.replace(b"equivalent classification", b"any classification".ljust(25)))
    story.check(copy.read_bytes() != true, "the copy is as it was")
    refused = desks.ask("KOR", pact, "verify", check=False)
    story.check(refused.code == 1, f"the false copy was believed: {refused.out}")
    story.say("somebody changes two words in Seoul's copy: REFUSED, it is not what was opened")
    copy.write_bytes(true)
    seen = desks.sign("KOR", pact, "2014-12-26T02:00:00Z")
    possible = [line for line in seen.err.splitlines() if "KOR → USA → JPN by tisa-2014/4" in line]
    story.check(bool(possible), "the signer was not shown what it makes possible")
    story.show(possible[0].strip())
    desks.sign("JPN", pact, "2014-12-26T06:00:00Z")
    story.say("26 December: Seoul and Tokyo sign, having seen what it makes possible")
    state = desks.status("JPN", pact, "2014-12-27T00:00:00Z")["state"]
    story.check(state == "open", f"in Tokyo it is {state} before the copies are in Washington")
    desks.deposit("USA", pact, "2014-12-28T15:00:00Z", ["KOR", "JPN"])
    desks.send(pact, "USA", ["KOR", "JPN"])
    story.show(desks.ask("KOR", pact, "timeline", "--at", "2014-12-29T00:00:00Z", check=True).out)
    for party in PARTIES:
        story.nodes.at(party, "agreement", "put", str(desks.copy(party, pact)))
    story.say("the signed copies are in Washington; each node is given the file, and decides by it")


def before_the_pact(story: Story) -> str:
    story.at("2014-12-20T03:00:00Z", "there is no pact between Seoul and Tokyo")
    title = "KN-02 launch from Hodo"
    file = story.report("ML-20140906-01", title)
    story.refused(
        story.share(
            "KOR", file, title, "ML-20140906-01", mark="KOR:II", rel_to="JPN,USA", to="JPN"
        ),
        "not-in-force",
        "Seoul offers Tokyo its report on a launch",
    )
    story.refused(
        story.share("JPN", file, title, "ML-20140906-01", mark="JPN:GOKUHI", rel_to="KOR,USA",
                    to="KOR"),
        "not-in-force",
        "Tokyo offers Seoul its own",
    )  # fmt: skip
    story.say("Seoul may give it to Washington, under their agreement of 1987:")
    item = story.shared(
        "KOR", file, title, "ML-20140906-01", mark="KOR:II", rel_to="JPN,USA", to="USA"
    )
    story.approve("KOR", item, "USA", "kim")
    story.delivered("KOR", item, "USA")
    story.say(f"it is in Washington: {story.marks('USA', item)}, receipt verified in Seoul")
    return item


def the_launch(story: Story) -> str:
    story.at("2014-12-28T15:00:00Z", "midnight in Seoul and Tokyo, the arrangement takes effect")
    in_force = story.nodes.at("KOR", "node", "status", "--json").json["in_force"]
    story.check("tisa-2014" in in_force, f"not in force: {in_force}")
    story.say(f"in force at Seoul's node: {', '.join(in_force)}")
    story.at("2015-03-02T01:00:00Z", "two Scud-C from Nampo, seen from Korea")
    title = "Two Scud-C from Nampo, about 490 km"
    item = story.shared(
        "KOR", story.report("ML-20150301-01", title), title, "ML-20150301-01",
        mark="KOR:II", rel_to="JPN,USA", to="JPN", precedence="IMMEDIATE",
    )  # fmt: skip
    story.show(story.nodes.at("KOR", "review", "show", item, "--to", "JPN").out)
    story.approve("KOR", item, "JPN", "kim")
    story.nodes.wait_for("KOR", item, "JPN", "with-hub")
    story.say("Washington holds it as SECRET; until its officer signs, Tokyo has nothing:")
    story.check("nothing" in story.nodes.at("JPN", "inbox").out, "Tokyo has it already")
    story.heading("the node in Washington is killed in the middle")
    story.nodes.kill("USA")
    story.say("kill -9; Seoul keeps what has no receipt from Tokyo")
    shown = story.nodes.at("KOR", "item", "show", item, "--json").json
    story.check(shown["to"][0]["state"] != "delivered", "Seoul forgot it")
    story.nodes.start("USA")
    story.nodes.set_clock("2015-03-02T01:10:00Z")
    story.say("it comes back, and the item still waits for its officer")
    story.approve("USA", item, "JPN", "smith")
    shown = story.delivered("KOR", item, "JPN")
    story.check(
        story.marks("JPN", item) == "군사II급비밀 → SECRET → 極秘", story.marks("JPN", item)
    )
    story.say(f"Tokyo has it: {story.marks('JPN', item)}")
    story.show(story.nodes.at("JPN", "item", "get", item).out)
    return item


def the_answer(story: Story) -> tuple[str, str]:
    story.at("2015-05-09T02:00:00Z", "a missile from a submarine, seen from Japan")
    title = "Pukguksong-1 from Sinpo, from a submarine"
    theirs = story.shared(
        "JPN", story.report("ML-20150508-01", title), title, "ML-20150508-01",
        mark="JPN:GOKUHI", rel_to="KOR,USA", to="KOR", precedence="PRIORITY",
    )  # fmt: skip
    story.approve("JPN", theirs, "KOR", "sato")
    story.approve("USA", theirs, "KOR", "jones")
    story.delivered("JPN", theirs, "KOR")
    story.check(
        story.marks("KOR", theirs) == "極秘 → SECRET → 군사II급비밀", story.marks("KOR", theirs)
    )
    story.say(f"Seoul has it: {story.marks('KOR', theirs)}")
    title = "Assessment: submarine launches this spring"
    story.say("Seoul builds an assessment on Tokyo's report; both owners' terms go with it")
    ours = story.shared(
        "KOR", story.report("ML-20150508-01", title), title, "ML-20150508-01",
        mark="KOR:II", rel_to="JPN,USA", to="JPN", kind="assessment", **{"from": theirs},
    )  # fmt: skip
    story.approve("KOR", ours, "JPN", "lee")
    story.approve("USA", ours, "JPN", "smith")
    shown = story.delivered("KOR", ours, "JPN")
    cites = shown["path"][-1]["cites"]
    story.check(cites == ["own-information+tisa-2014/4", "tisa-2014/4"], f"cited {cites}")
    story.say(f"it finds its way back to Tokyo over Washington, by {' and '.join(cites)}")
    return theirs, ours


def what_may_not_go(story: Story, given: str) -> None:
    story.at("2015-05-10T02:00:00Z", "what the pact does not cover")
    title = "The intrusion into a film studio"
    file = story.report("CI-20141124-01", title)
    story.refused(
        story.share("KOR", file, title, "CI-20141124-01", mark="KOR:II", rel_to="JPN,USA",
                    to="JPN"),
        "outside-topic",
        "Seoul offers Tokyo a report on the intrusion of November 2014",
    )  # fmt: skip
    title = "Grade I"
    file = story.report("ML-20150508-01", title)
    story.refused(
        story.share("KOR", file, title, "ML-20150508-01", mark="KOR:I", rel_to="JPN,USA",
                    to="JPN"),
        "mark-not-covered",
        "Seoul offers a grade I secret",
    )  # fmt: skip
    story.refused(
        story.nodes.at("USA", "offer", given, "--to", "JPN", "--json", check=False),
        "third-party-rule",
        "Washington offers Tokyo what Seoul gave it in December under the agreement of 1987",
    )
    story.check(not asyncio.run(knock(story.nodes)), "Tokyo's node answered Seoul")
    story.say("Seoul's node calls Tokyo's directly: REFUSED, no answer and no word why")


async def knock(nodes: Coalition) -> bool:
    """Whether Tokyo's node answers a call from Seoul's, made with Seoul's own certificate."""
    keys = open_key_folder(nodes.keys("KOR"))
    passphrase = read_passphrase(nodes.passphrase_file)
    context = client_context(
        keys.certificate_path("tls"),
        KeyFile(keys.key_path("tls"), passphrase.reveal),
        [(nodes.keys("JPN") / "ca.crt").read_bytes()],
    )
    client = Client("127.0.0.1", nodes.ports["JPN"], context, check_peer=lambda der: None)
    try:
        response = await client.request("GET", "/relto/v1/node-key/JPN", timeout_s=5.0)
    except LinkError:
        return False
    finally:
        await client.close()
    return response.status == 200


def who_holds_what(story: Story) -> None:
    story.heading("who holds what, under which article")
    rows = [("item", "title", *(NAMES[p] for p in PARTIES), "under")]
    signatures = 0
    for item, title in story.titles.items():
        held: list[str] = []
        articles: set[str] = set()
        for party in PARTIES:
            outcome = story.nodes.at(party, "item", "show", item, "--json", check=False)
            if outcome.code != 0:
                held.append("–")
                continue
            shown = outcome.json
            held.append(shown["banner"])
            records = [shown["manifest"], *shown["path"], *shown["answers"]]
            story.check(all(r["signed_by"] for r in records), f"unsigned record in {item}")
            signatures += sum(len(r["signed_by"]) for r in records)
            articles |= {cite for step in shown["path"] for cite in step["cites"]}
        rows.append((item[:12], title, *held, ", ".join(sorted(articles))))
    widths = [max(_width(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)
        ]
        print("   " + "  ".join(cells).rstrip())
    story.say("")
    story.say(f"{signatures} signatures on them, verified anew at the nodes that hold them")


def _width(text: str) -> int:
    """Columns of a terminal: Korean, Japanese and Chinese letters take two."""
    return sum(2 if "\u1100" <= c <= "\u11ff" or "\u2e80" <= c <= "\ud7ff" else 1 for c in text)


def read_events() -> dict[str, Any]:
    """The table of events, by id."""
    file = Path(__file__).with_name("events.toml")
    table = tomllib.loads(file.read_text(encoding="utf-8"))
    return {**table, "event": {event["id"]: event for event in table["event"]}}


def find_regime() -> Path:
    """The pact, in the checkout that this runs from."""
    for folder in Path(__file__).resolve().parents:
        if (folder / "regimes" / "tisa").is_dir():
            return folder / "regimes" / "tisa"
    raise Surprise("no regimes/tisa beside the program; run make demo in a checkout")


def play(story: Story, desks: Desks) -> None:
    given = before_the_pact(story)
    the_signing(story, desks)
    the_launch(story)
    the_answer(story)
    what_may_not_go(story, given)
    who_holds_what(story)


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="relto-demo-"))
    print("relto: three ministries, three nodes, one pact; EXERCISE certificates, loopback only")
    try:
        with Coalition(folder, find_regime(), PARTIES, LINKS) as nodes:
            story = Story(nodes, read_events())
            nodes.make_keys()
            story.say("each has made its keys; the agreements carry the fingerprints of their CAs")
            try:
                desks = Desks(nodes)
                the_papers(story, desks)
                desks.draft("USA", "tisa-2014", "2014-12-19T00:00:00Z")
                desks.send("tisa-2014", "USA", ["KOR", "JPN"])
                for party, (whole, pillars) in OWN.items():
                    desks.give_to_node(party, whole, pillars)
                nodes.make_nodes()
                nodes.start_all()
                story.say("three processes, three stores; Seoul and Tokyo reach Washington alone")
                play(story, desks)
            except (Surprise, RuntimeError, TimeoutError) as e:
                print(f"\nthis did not happen as it should: {e}", file=sys.stderr)
                for party in nodes.processes:
                    print(f"-- log of {party}\n{nodes.log(party)[-2000:]}", file=sys.stderr)
                return 1
            seconds = time.monotonic() - story.started
            print(f"\nall of it happened as it should: {story.checks} checks, {seconds:.0f} s")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
