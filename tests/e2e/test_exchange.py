"""Items on their way between three real nodes, and what happens when something goes wrong."""

import random
import time

import pytest

from e2e.nodes import PARTIES, PAYLOAD_BYTES_MAX, Nodes, until

SEED = 20141229
KILLS_EACH = 4


def deliver(nodes: Nodes, item: str, maker: str, to: str) -> None:
    """Through both reviews to the destination's receipt."""
    nodes.approve(maker, item, to, PARTIES[maker][0])
    nodes.wait_for_review("USA", item, to)
    nodes.approve("USA", item, to, "smith")
    nodes.wait_for(maker, item, to, "delivered")


def deliver_all(nodes: Nodes, maker: str, to: str, items: list[str]) -> None:
    for item in items:
        until(lambda item=item: nodes.way(maker, item, to)["state"] == "delivered", item[:12])  # type: ignore[misc]


def arrivals(nodes: Nodes, party: str, items: list[str]) -> list[str]:
    """In which order items were accepted at a party's node."""
    accepted = [e["item"] for e in nodes.journal(party) if e["event"] == "accept"]
    return [item for item in accepted if item in items]


# An item's way


def test_an_item_goes_by_way_of_the_hub_and_each_end_can_show_why(tisa: Nodes) -> None:
    item = tisa.shared("KOR", b"two launches\n", to="JPN", mark="KOR:II", title="Two launches")
    assert tisa.way("KOR", item, "JPN")["state"] == "review"
    with pytest.raises(RuntimeError, match="no such item here"):
        tisa.show("USA", item)
    tisa.approve("KOR", item, "JPN", "kim")
    tisa.wait_for_review("USA", item, "JPN")
    assert tisa.content("USA", item) == b"two launches\n"  # this hub reads
    assert item not in [i["id"] for i in tisa.inbox("JPN")]
    tisa.approve("USA", item, "JPN", "smith")
    tisa.wait_for("KOR", item, "JPN", "delivered")
    at_seoul, at_hub, at_tokyo = (tisa.show(party, item) for party in ("KOR", "USA", "JPN"))
    assert [s["banner"] for s in (at_seoul, at_hub, at_tokyo)] == ["군사II급비밀", "SECRET", "極秘"]
    for shown in (at_seoul, at_hub, at_tokyo):
        assert shown["title"] == "Two launches"
        assert shown["manifest"]["signed_by"] == ["kim"]
        assert shown["label"]["releasable_to"] == ["JPN", "USA"]
        assert {a["record"] for a in shown["answers"]} == {"receipt"}
        assert all(a["signed_by"] == ["node"] for a in shown["answers"])
    assert [(s["from"], s["to"], s["cites"]) for s in at_tokyo["path"]] == [
        ("KOR", "JPN", ["tisa-2014/4"]),
        ("USA", "JPN", ["tisa-2014/4"]),
    ]
    assert [s["marks"] for s in at_tokyo["path"]] == [["USA:S", "JPN:GOKUHI"], ["JPN:GOKUHI"]]
    assert [a["party"] for a in at_seoul["answers"]] == ["USA", "JPN"]
    assert tisa.content("JPN", item) == b"two launches\n"
    text = tisa.at("JPN", "item", "show", item, "--lang", "ko").out
    assert "tisa-2014/4: 대한민국 국방부와" in text
    assert text.count("verified") == 4  # manifest, two releases, the receipt


def test_what_the_hubs_officer_refuses_comes_back_with_its_code_and_stays(tisa: Nodes) -> None:
    item = tisa.shared("KOR", b"not for long", to="JPN")
    tisa.approve("KOR", item, "JPN", "lee")
    tisa.wait_for_review("USA", item, "JPN")
    refused = tisa.at("USA", "review", "refuse", item, "--to", "JPN", "--json").json
    assert refused["to"][0]["state"] == "declined"
    way = until(
        lambda: (w := tisa.way("KOR", item, "JPN"))["state"] == "refused" and w, "the refusal"
    )
    assert way["codes"] == ["refused-by-officer"]
    assert "refused on the way (refused-by-officer)" in tisa.at("KOR", "item", "show", item).out
    [refusal] = [a for a in tisa.show("KOR", item)["answers"] if a["record"] == "refusal"]
    assert (refusal["party"], refusal["signed_by"]) == ("USA", ["node"])
    assert tisa.content("KOR", item) == b"not for long"
    assert item not in [i["id"] for i in tisa.inbox("JPN", "--all")]
    # After a refusal another release may follow.
    tisa.at("KOR", "offer", item, "--to", "JPN")
    deliver(tisa, item, "KOR", "JPN")


def test_a_hold_stops_shows_and_lifts(carried: Nodes) -> None:
    officer = ("--officer", str(carried.officer("KOR", "kim")))
    hold = ("hold", "--to", "JPN", *officer, "--passphrase-file", str(carried.passphrase_file))
    assert carried.at("KOR", *hold, "--json").json == {"to": "JPN", "on": True}
    item = carried.shared("KOR", b"held", to="JPN", topic="passed")
    way = until(lambda: (w := carried.way("KOR", item, "JPN"))["state"] == "blocked" and w, "held")
    assert way["codes"] == ["on-hold"]
    assert "stopped here (on-hold)" in carried.at("KOR", "item", "show", item).out
    status = carried.at("KOR", "node", "status")
    assert "on hold, nothing is released to: JPN" in status.out
    to_hub = carried.shared("KOR", b"for the hub", to="USA", topic="paired")
    carried.approve("KOR", to_hub, "USA", "kim")
    deliver_all(carried, "KOR", "USA", [to_hub])  # a hold to one party is no hold to another
    assert arrivals(carried, "USA", [item]) == []
    carried.at("KOR", *hold, "--lift")
    deliver_all(carried, "KOR", "JPN", [item])
    assert carried.at("KOR", "node", "status", "--json").json["holds"] == []


def test_a_clause_for_two_officers_takes_two_different_ones(carried: Nodes) -> None:
    item = carried.shared("KOR", b"upper row", to="JPN", topic="reviewed", mark="KOR:II")
    [review] = [r for r in carried.at("KOR", "review", "list", "--json").json["reviews"]
                if r["id"] == item]  # fmt: skip
    assert review["officers"] == 2
    for party, officers in (("KOR", ("kim", "lee")), ("USA", ("smith", "jones"))):
        carried.wait_for_review(party, item, "JPN")
        first = carried.approve(party, item, "JPN", officers[0])
        assert "waiting for a disclosure officer" in first.out
        with pytest.raises(RuntimeError, match=f"{officers[0]} approved this already"):
            carried.approve(party, item, "JPN", officers[0])
        [waits] = [r for r in carried.at(party, "review", "list", "--json").json["reviews"]
                   if r["id"] == item]  # fmt: skip
        assert waits["approved_by"] == [officers[0]]
        assert item not in [i["id"] for i in carried.inbox("JPN", "--all")]
        carried.approve(party, item, "JPN", officers[1])
    deliver_all(carried, "KOR", "JPN", [item])
    assert carried.show("JPN", item)["manifest"]["signed_by"] == ["kim", "lee"]


def test_an_officer_of_another_party_approves_nothing(carried: Nodes) -> None:
    item = carried.shared("KOR", b"mine", to="JPN", topic="blind")
    outcome = carried.at(
        "KOR", "review", "approve", item, "--to", "JPN",
        "--officer", str(carried.officer("USA", "smith")),
        "--passphrase-file", str(carried.passphrase_file), check=False,
    )  # fmt: skip
    assert outcome.code == 2
    assert carried.way("KOR", item, "JPN")["state"] == "review"


def test_what_cannot_be_delivered_says_why(carried: Nodes, tisa: Nodes) -> None:
    with carried.down("USA"):
        item = carried.shared("KOR", b"waits", to="JPN", topic="passed")
        way = until(
            lambda: (w := carried.way("KOR", item, "JPN")).get("undelivered_because") and w, "why"
        )
        assert "connection refused" in way["undelivered_because"]
        assert "connection refused" in carried.at("KOR", "item", "show", item).out
        assert "link peer" in carried.at("KOR", "node", "status").out
    deliver_all(carried, "KOR", "JPN", [item])


# Sizes


def test_a_payload_at_the_limit_passes_and_one_byte_more_does_not(tisa: Nodes) -> None:
    content = random.Random(SEED).randbytes(PAYLOAD_BYTES_MAX)
    item = tisa.shared("KOR", content, to="USA")
    tisa.approve("KOR", item, "USA", "kim")
    deliver_all(tisa, "KOR", "USA", [item])
    assert tisa.content("USA", item) == content
    outcome = tisa.share("KOR", content + b"!", to="USA", check=False)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == (
        f"relto: the payload has {PAYLOAD_BYTES_MAX + 1} bytes; this node takes at most "
        f"{PAYLOAD_BYTES_MAX} (limits.payload_bytes_max)\n"
    )


def test_a_large_payload_arrives_whole_though_its_receiver_is_killed(tisa: Nodes) -> None:
    content = random.Random(SEED).randbytes(3 * 1024 * 1024)
    item = tisa.shared("KOR", content, to="JPN", title="Large")
    tisa.approve("KOR", item, "JPN", "kim")
    kill_in_the_middle(tisa, "USA", item)
    tisa.wait_for_review("USA", item, "JPN", timeout_s=60)
    tisa.approve("USA", item, "JPN", "jones")
    kill_in_the_middle(tisa, "JPN", item)
    deliver_all(tisa, "KOR", "JPN", [item])
    out = tisa.folder / "large.bin"
    tisa.at("JPN", "item", "get", item, "--out", str(out))
    assert out.read_bytes() == content


def kill_in_the_middle(nodes: Nodes, party: str, item: str) -> None:
    """Kill a receiver once it has a part of the ciphertext, if it is caught before it has all."""
    blobs = nodes.node(party) / "store" / "blobs"
    before = set(blobs.iterdir())
    until(lambda: nodes.is_here(party, item), "that it was accepted")
    until(lambda: set(blobs.iterdir()) - before or is_whole(nodes, party, item), "a range")
    nodes.kill(party)
    nodes.start(party)


def is_whole(nodes: Nodes, party: str, item: str) -> bool:
    return bool(nodes.show(party, item)["state"] == "received")


# Nodes that stop


def test_flash_overtakes_what_waited_before_it(carried: Nodes) -> None:
    with carried.down("USA"):
        items = [
            carried.shared("KOR", b"routine %d" % n, to="JPN", topic="passed") for n in range(10)
        ]
        until(
            lambda: all("undelivered_because" in carried.way("KOR", i, "JPN") for i in items[:1]),
            "a first attempt",
        )
        items.append(carried.shared("KOR", b"flash", to="JPN", topic="passed", precedence="FLASH"))
    deliver_all(carried, "KOR", "JPN", items)
    assert arrivals(carried, "USA", items)[0] == items[-1]
    assert sorted(arrivals(carried, "USA", items)) == sorted(items)


@pytest.mark.parametrize("party", ["JPN", "USA"])
def test_nothing_is_lost_while_a_node_is_stopped(carried: Nodes, party: str) -> None:
    with carried.down(party):
        items = [
            carried.shared("KOR", b"%d while %s is away" % (n, party.encode()), to="JPN",
                           topic=("passed", "automatic")[n % 2])
            for n in range(4)
        ]  # fmt: skip
        waiting = "ready" if party == "USA" else "with-hub"
        if party == "JPN":
            until(lambda: carried.way("KOR", items[0], "JPN")["state"] == waiting, waiting)
        carried.stop("KOR")  # and it comes back before the other does
        carried.start("KOR")
        assert carried.way("KOR", items[0], "JPN")["state"] == waiting
    deliver_all(carried, "KOR", "JPN", items)
    assert sorted(arrivals(carried, "JPN", items)) == sorted(items)


def test_killed_at_any_moment_nodes_lose_nothing_and_repeat_nothing(carried: Nodes) -> None:
    dice = random.Random(SEED)
    victims = [party for party in PARTIES for _ in range(KILLS_EACH)]
    dice.shuffle(victims)
    contents: dict[str, tuple[str, str, bytes]] = {}
    owed_before = carried.owed()  # what a forger in another test has stranded stays owed
    for round_, victim in enumerate(victims):
        maker, to = dice.choice([("KOR", "JPN"), ("JPN", "KOR")])
        topic = dice.choice(["passed", "automatic"])
        content = b"round %d" % round_
        contents[carried.shared(maker, content, to=to, topic=topic)] = (maker, to, content)
        time.sleep(dice.uniform(0, 0.12))  # a random moment is what is tested, not a state
        carried.kill(victim)
        carried.start(victim)
    for item, (maker, to, _) in contents.items():
        deliver_all(carried, maker, to, [item])
    until(lambda: carried.owed() <= owed_before, "that nobody owes anything of ours")
    for party in PARTIES:
        entries = carried.journal(party)
        ends = [(e["event"], e["item"]) for e in entries if e["event"] in ("held", "delivered")]
        ours = [end for end in ends if end[1] in contents]
        assert len(ours) == len(set(ours)), f"{party} did something twice"
    for item, (maker, to, content) in contents.items():
        assert [i["id"] for i in carried.inbox(to)].count(item) == 1
        assert carried.content(to, item) == content
        receipts = [a for a in carried.show(maker, item)["answers"] if a["record"] == "receipt"]
        assert [(r["party"], r["signed_by"]) for r in receipts if r["party"] == to] == [
            (to, ["node"])
        ]


def test_a_share_that_was_cut_off_happened_once_or_not_at_all(carried: Nodes) -> None:
    """The node is killed while somebody's command waits for its answer."""
    dice = random.Random(SEED + 1)
    for _ in range(4):
        file = carried.file("cut.bin", dice.randbytes(16))
        before = {i["id"] for i in carried.inbox("JPN")}
        process = carried._start_command(
            "share", str(file), "--topic", "passed", "--about", "PRK", "--mark", "KOR:III",
            "--rel-to", "JPN,USA", "--to", "JPN", "--json", "--node", str(carried.node("KOR")),
        )  # fmt: skip
        time.sleep(dice.uniform(0.1, 0.6))  # a random moment is what is tested, not a state
        carried.kill("KOR")
        out, err = process.communicate(timeout=60)
        assert "Traceback" not in err
        carried.start("KOR")
        made = [i for i in carried.inbox("KOR", "--all") if i.get("title") == "cut.bin"]
        deliver_all(carried, "KOR", "JPN", [i["id"] for i in made])
        arrived = [i for i in carried.inbox("JPN") if i["id"] not in before]
        assert len(arrived) <= 1
        if process.returncode == 0:
            assert len(arrived) == 1, out
