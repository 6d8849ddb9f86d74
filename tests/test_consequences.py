"""What a change of regime does to the items held: by class as it would be item by item."""

import copy
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from holding_laws import Case, cases, item_of
from pact_checks import Pact
from relto.apps.cli import main
from relto.consequences import Consequences, Shift, Verdict, consequences
from relto.decisions import Allow, Engine, Reason
from relto.errors import CallerError, RegimeError, StoreBroken
from relto.holdings import KIND, note_class
from relto.items import Incoming, Item
from relto.ports import Store
from relto.regime import Regime, closure, load_regime
from relto.stores import MemoryStore, SqliteStore
from relto.stores.folder import read_folder
from relto.stores.visits import visit
from steps import NOW, release_in, sender_states
from strategies import random_instant, random_regime, text

TISA = Path(__file__).parent.parent / "regimes" / "tisa"
Shifts = dict[str, tuple[set[str], set[str]]]  # of each item: who gains it, who loses it

ARTICLE_4 = 'article = "4"\ntext.en'
PATH = ("KOR", "USA", "JPN")
AT = "2015-03-02T01:00:00Z"


def kept(store: Store, *items: Item) -> None:
    def job(tx: Any) -> None:
        for item in items:
            tx.put("item", item.id, item.encode(), state=item.state, rank=item.at)
            note_class(tx, None, item)

    store.commit([job])


def held_item(case: Case, number: int) -> Item:
    """The item of a case, here: made here, or come whole."""
    item = item_of(case, number.to_bytes(4, "big"))
    ready = sender_states()["ready"]
    assert ready is not None
    way = () if item.made_here else (Incoming(release_in(ready), "held", NOW),)
    return replace(item, incoming=way)


def tisa(*changes: tuple[str, str]) -> Regime:
    """The pact, with some words of the arrangement of 2014 replaced."""
    files, _ = read_folder(TISA)
    name = "agreements/tisa-2014.toml"
    data = files[name].decode()
    for old, new in changes:
        assert old in data
        data = data.replace(old, new)
    return load_regime(files | {name: data.encode()})


NARROWER = ('"report", "warning", "assessment"', '"warning", "assessment"')
OTHER_ARTICLE = (ARTICLE_4, 'article = "44"\ntext.en')


def reports(count: int, **changes: Any) -> list[Item]:
    label = {
        "originator": "KOR", "mark": "KOR:III", "releasable_to": ["JPN", "USA"],
        "kind": "report", "topics": ["missile.launch"], "about": ["PRK"],
    }  # fmt: skip
    case = {"holder": "KOR", "item": label | changes, "held_as": None, "basis": {}}
    return [held_item(case, number) for number in range(count)]


def received(count: int) -> list[Item]:
    """At Washington: what Seoul gave by the arrangement, for Tokyo."""
    found = []
    for item in reports(count):
        basis = {item.id: [{"agreement": "tisa-2014", "article": "4"}]}
        [came] = held_item(
            {"holder": "USA", "item": dict(item.manifest.label), "held_as": "USA:C", "basis": {}}, 1
        ).incoming
        found.append(replace(item, made_here=False, held_as="USA:C", basis=basis, incoming=(came,)))
    return found


# item by item


def narrowed(rng: random.Random, made: dict[str, Any]) -> dict[str, Any]:
    """A regime with some clauses less, and sound."""
    while True:
        other = copy.deepcopy(made)
        for agreement in other["agreements"].values():
            clauses = [clause for clause in agreement["clause"] if rng.random() < 0.7]
            agreement["clause"] = clauses or agreement["clause"]
        try:
            Pact(other)
        except RegimeError:
            continue
        return other


def of_one_holder(rng: random.Random, pact: Pact, count: int) -> list[Case]:
    found = list(cases(rng, pact, 3 * count))
    holder = found[0]["holder"]
    return [case for case in found if case["holder"] == holder][:count]


def allowed(pact: Pact, item: Item, case: Case, at: str) -> set[str]:
    """To whom the item may go, asked as JSON, one party after the other."""
    holding = {"basis": item.basis} | ({} if item.held_as is None else {"held_as": item.held_as})
    label = {"id": item.id, **case["item"]}
    asked = {"at": at, "holder": case["holder"], "item": label, "holding": holding}
    return {to for to in pact.made["schemes"] if isinstance(pact.decide(asked | {"to": to}), Allow)}


def compared(seed: int, store: Store, size: int, each: int) -> tuple[Consequences, Shifts, Shifts]:
    """The consequences by class and what `tell` heard, beside what item by item gives."""
    rng = random.Random(seed)
    before = Pact(random_regime(rng))
    after = Pact(narrowed(rng, before.made))
    chosen = of_one_holder(rng, before, size)
    holder = chosen[0]["holder"]
    if rng.random() < 0.5:
        before, after = after, before
    regimes = (before.engine.regime, after.engine.regime)
    at = text(random_instant(rng, before.made))
    for pact in (before, after):
        pact.engine = Engine(closure(pact.engine.regime, holder))
    rightly: Shifts = {}
    for place, case in enumerate(chosen):
        items = [held_item(case, place * each + number) for number in range(each)]
        kept(store, *items)
        for item in items:
            old, new = (allowed(pact, item, case, at) for pact in (before, after))
            if old != new:
                rightly[item.id] = (new - old, old - new)
    told: Shifts = {}

    def tell(items: Sequence[str], gained: Sequence[str], lost: Sequence[str]) -> None:
        assert not told.keys() & set(items)
        told.update((item, (set(gained), set(lost))) for item in items)

    found = consequences(store.read, holder, *regimes, at, tell=tell)
    assert found.items == len(chosen) * each
    return found, told, rightly


def counted(found: Consequences, *, gained: bool) -> int:
    return sum(a.items for s, a in found.shifts.items() if s.gained is gained)


def test_classes_tell_what_item_by_item_would_be_told() -> None:
    shifted = {True: 0, False: 0}
    for seed in range(60):
        found, told, rightly = compared(seed, MemoryStore(), 8, 3)
        assert told == rightly, f"seed {seed}"
        for gained in (True, False):
            pairs = sum(len(to[not gained]) for to in rightly.values())
            assert counted(found, gained=gained) == pairs, f"seed {seed}"
            shifted[gained] += pairs
        for shift, affected in found.shifts.items():
            assert shift.to in told[affected.example][not shift.gained]
    assert min(shifted.values()) > 20


def test_a_store_of_thousands_is_told_alike(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store")
    found, told, rightly = compared(41, store, 12, 250)
    store.close()
    assert told == rightly
    assert (found.items, found.classes, len(told)) == (3_000, 11, 8 * 250)


def test_every_item_of_a_class_is_named_however_many_there_are() -> None:
    store, told = MemoryStore(), []
    items = reports(2_001)
    kept(store, *items)
    consequences(
        store.read, "KOR", tisa(), tisa(NARROWER), AT, tell=lambda items, *_: told.extend(items)
    )
    assert told == sorted(item.id for item in items)


# written out


def test_what_no_longer_goes_is_told_with_the_article_and_the_reason() -> None:
    store = MemoryStore()
    items = [*reports(3), *reports(2, kind="warning"), *reports(1, releasable_to=["USA"])]
    kept(store, *items)
    found = consequences(store.read, "KOR", tisa(), tisa(NARROWER), AT)
    permitted = Verdict(path=PATH, cites=("tisa-2014/4",))
    refused = Verdict(
        reasons=(
            Reason("not-in-force", "gsomia-jpn-kor-2012/provision"),
            Reason("not-in-force", "gsomia-jpn-kor-2016/provision"),
            Reason("outside-kind", "tisa-2014/4"),
            Reason("not-in-force", "warning-2023/1"),
        )
    )
    assert (found.items, found.classes) == (6, 3)
    [(shift, affected)] = found.shifts.items()
    assert shift == Shift("JPN", False, permitted, refused)
    assert (affected.items, affected.classes, affected.why) == (3, 1, "")
    assert affected.example == min(item.id for item in items[:3])
    back = consequences(store.read, "KOR", tisa(NARROWER), tisa(), AT)
    assert list(back.shifts) == [Shift("JPN", True, refused, permitted)]


def test_what_is_held_on_an_article_that_goes_away_says_so() -> None:
    """The hub's node would be asked about a word that its regime does not have."""
    store = MemoryStore()
    kept(store, *received(4))
    found = consequences(store.read, "USA", tisa(), tisa(OTHER_ARTICLE), AT)
    [(shift, affected)] = found.shifts.items()
    assert (shift.to, shift.gained, affected.items) == ("JPN", False, 4)
    assert shift.before == Verdict(path=("USA", "JPN"), cites=("tisa-2014/4",))
    assert shift.after == Verdict(reasons=(Reason("malformed"),))
    assert affected.why.endswith('names "tisa-2014/4", which is no share or onward article')


def test_a_party_that_only_one_of_the_regimes_has_is_asked_about() -> None:
    files, _ = read_folder(TISA)
    scheme = files["schemes/JPN.toml"].replace(b"JPN", b"AUS")
    store = MemoryStore()
    kept(store, *reports(1))
    more = load_regime(files | {"schemes/AUS.toml": scheme})
    assert consequences(store.read, "KOR", tisa(), more, AT).shifts == {}
    with pytest.raises(CallerError, match='"NZL" is a party of neither regime'):
        consequences(store.read, "NZL", tisa(), more, AT)


def test_the_number_of_classes_has_a_limit() -> None:
    store = MemoryStore()
    kept(store, *reports(2), *reports(2, kind="warning"))
    assert consequences(store.read, "KOR", tisa(), tisa(), AT, classes_max=2).classes == 2
    with pytest.raises(CallerError, match="are of more than 1 classes: nearly every one has a la"):
        consequences(store.read, "KOR", tisa(), tisa(), AT, classes_max=1)


def test_classes_are_read_page_by_page_and_progress_is_told() -> None:
    store = MemoryStore()
    marks = [f"KOR:{code}" for code in ("I", "II", "III")]
    topics = ["missile", "missile.launch", "nuclear", "nuclear.test"]
    lists = [["JPN"], ["JPN", "USA"], ["USA"]]
    kinds = ["report", "warning", "imagery", "rfi"]
    each = [
        reports(2, mark=mark, topics=[topic], releasable_to=readers, kind=kind)
        for mark in marks for topic in topics for readers in lists for kind in kinds
    ]  # fmt: skip
    kept(store, *(item for some in each for item in some))
    heard: list[int] = []
    found = consequences(store.read, "KOR", tisa(), tisa(), AT, progress=heard.append)
    assert (found.items, found.classes) == (288, 144)
    assert heard == [2] * 144


@pytest.mark.parametrize("wrong", ["no such item", "another class"])
def test_a_class_that_is_not_that_of_its_items_is_damage(wrong: str) -> None:
    store = MemoryStore()
    [item] = reports(1)
    if wrong == "another class":
        kept(store, item)
    store.commit([lambda tx: tx.put(KIND, item.id, b"", state="0" * 64)])
    with pytest.raises(StoreBroken, match="the store is damaged: item "):
        consequences(store.read, "KOR", tisa(), tisa(), AT)


# a store that is not ours


def test_a_visit_writes_nothing_and_leaves_a_running_node_its_store(tmp_path: Path) -> None:
    running = SqliteStore(tmp_path / "store")
    kept(running, *reports(2))
    with visit(tmp_path / "store") as visited:
        with visited.read() as reader:
            assert reader.count(KIND) == 2
            kept(running, *reports(1, kind="warning"))
            assert reader.count(KIND) == 2  # as of one instant
        with visited.read() as reader:
            assert reader.count(KIND) == 3
        running.scrub()  # the log can be emptied: nothing is held between snapshots
    running.close()
    with visit(tmp_path / "store") as visited, visited.read() as reader:
        assert reader.count(KIND) == 3  # and when no node runs


def test_a_store_of_another_layout_is_not_read(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "store").close()
    for version, fix in ((2, "start its node once"), (4, "install the newer relto")):
        connection = apsw.Connection(str(tmp_path / "store" / "relto.db"))
        connection.pragma("user_version", version)
        connection.close()
        with (
            pytest.raises(CallerError, match=f"has schema {version} and this relto knows 3: {fix}"),
            visit(tmp_path / "store"),
        ):
            pass
    with pytest.raises(CallerError, match="no store at"), visit(tmp_path / "none"):
        pass


# the command


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """The folder of Seoul's node, which does not run."""
    folder = tmp_path / "kor"
    folder.mkdir()
    (folder / "node.toml").write_text(
        'party = "KOR"\nregime = "r"\nkeys = "k"\nlisten = "127.0.0.1:1"\n'
    )
    store = SqliteStore(folder / "store")
    kept(store, *reports(3), *reports(2, kind="warning"))
    store.close()
    return folder


@pytest.fixture
def narrower(tmp_path: Path) -> Path:
    folder = tmp_path / "b"
    files, _ = read_folder(TISA)
    for name, data in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        old, new = NARROWER
        file.write_bytes(data.replace(old.encode(), new.encode()) if "tisa-2014" in name else data)
    return folder


def ask(*options: str | Path) -> int:
    return main(["regime", "diff", *map(str, options)])


def test_the_command_tells_people_how_many_and_by_which_article(
    node: Path, narrower: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(TISA, narrower, "--items", "--node", node, "--at", AT) == 0
    out, err = capsys.readouterr()
    example = min(item.id for item in reports(3))
    assert out.splitlines()[-3:] == [
        f"items held by KOR at {AT}: 5, of 2 classes",
        "to JPN: 0 may newly go, 3 no longer",
        f"  - 3 KOR → USA → JPN by tisa-2014/4; now outside-kind tisa-2014/4; such as {example}",
    ]
    assert err == ""
    assert ask(TISA, TISA, "--items", "--node", node) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "  none may newly go to anybody, and none may no longer"


def test_the_command_names_every_item_to_programs(
    node: Path, narrower: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = tmp_path / "ids.jsonl"
    options = ("--items", "--node", node, "--at", AT, "--json", "--ids", ids)
    assert ask(narrower, TISA, *options) == 0
    shown = json.loads(capsys.readouterr().out)["items"]
    names = sorted(item.id for item in reports(3))
    assert shown == {
        "party": "KOR", "at": AT, "items": 5, "classes": 2,
        "shifts": [
            {
                "to": "JPN", "gained": True, "items": 3, "classes": 1, "example": names[0],
                "before": {
                    "decision": "deny",
                    "reasons": [
                        {"code": "not-in-force", "cites": "gsomia-jpn-kor-2012/provision"},
                        {"code": "not-in-force", "cites": "gsomia-jpn-kor-2016/provision"},
                        {"code": "outside-kind", "cites": "tisa-2014/4"},
                        {"code": "not-in-force", "cites": "warning-2023/1"},
                    ],
                },
                "after": {"decision": "allow", "path": list(PATH), "cites": ["tisa-2014/4"]},
            }
        ],
    }  # fmt: skip
    lines = [json.loads(line) for line in ids.read_text().splitlines()]
    assert lines == [{"item": name, "gained": ["JPN"], "lost": []} for name in names]
    assert ids.stat().st_mode & 0o777 == 0o600
    assert ask(narrower, TISA, *options) == 2  # never written over
    assert "cannot make" in capsys.readouterr().err


def test_the_command_says_what_it_needs(
    node: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RELTO_NODE", raising=False)
    assert ask(TISA, TISA, "--items") == 2
    assert capsys.readouterr().err == "relto: which node? give --node DIR, or set RELTO_NODE\n"
    assert ask(TISA, TISA, "--ids", tmp_path / "x") == 2
    assert "--ids needs --items" in capsys.readouterr().err
    assert ask(TISA, TISA, "--items", "--node", tmp_path) == 2
    assert "make a node with relto node init" in capsys.readouterr().err


def test_now_is_the_nodes_own(node: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An exercise may play another year: its node decides by that."""
    store = SqliteStore(node / "store")
    store.commit([lambda tx: tx.set_meta("clock-offset-s", b"-1e9")])
    store.close()
    assert ask(TISA, TISA, "--items", "--node", node, "--json") == 0
    at = json.loads(capsys.readouterr().out)["items"]["at"]
    assert at[:4] in ("1993", "1994", "1995")


def test_progress_is_drawn_on_a_terminal_and_gone_at_the_end(
    node: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relto.apps.cli.held.REDRAWN_S", 0.0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert ask(TISA, TISA, "--items", "--node", node) == 0
    drawn = capsys.readouterr().err.split("\r")
    assert drawn[1:3] in (["2 of 5 items", "5 of 5 items"], ["3 of 5 items", "5 of 5 items"])
    assert [part.strip() for part in drawn[3:]] == ["", ""]


def test_where_it_takes_long_progress_is_told_in_lines(
    node: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relto.apps.cli.held.REPEATED_S", 0.0)
    assert ask(TISA, TISA, "--items", "--node", node) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "5 of 5 items"
