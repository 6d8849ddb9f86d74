"""The arrow of dependencies points one way (DESIGN §7), and the pure core imports no I/O."""

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src"

# From the ground up. A module imports from its own layer and those below; a new one is placed here.
LAYERS: dict[str, str] = {
    "ground": "errors instants tables",
    "bytes": "canonical envelope payloads ports seal streams",
    "marks": "marks topics",
    "labels": "labels questions",
    "agreements": "agreements clauses regime suspicions timeline",
    "decisions": "answers channels decisions explanations phrases readers",
    "proofs": "proofs proofs.certificates proofs.chains proofs.checker proofs.drawings "
    "proofs.differing proofs.fixpoint proofs.horn proofs.model proofs.phrases proofs.properties "
    "proofs.proving proofs.stories",
    "records": "certificates chronicles comparing consignments deriving events fields holdings "
    "hop instruments issuing items journals lives moves records sealing shared signed terms trust",
    "exchange": "consequences exchange receiving recovering releasing",
    "adapters": "buckets config framing keys keys.files keys.folder links links.addresses "
    "links.client links.greetings links.http links.server links.streams links.tls logs stores "
    "stores.checking stores.files "
    "stores.folder stores.fuse stores.limits stores.memory stores.migrations stores.rows "
    "stores.snapshots stores.sqlite stores.visits stores.writer supervisor system",
    "signing": "signing signing.checking signing.documents signing.signatures signing.wording",
    "node": "agreeing alarms backlog backups calls contents counter courier findings hands holds "
    "metrics node peering quotas recovery returning serving showing sightings turns",
    "apps": "__main__ apps apps.cli apps.cli.agreement apps.cli.asking apps.cli.backup "
    "apps.cli.decide apps.cli.differing apps.cli.doctor apps.cli.document apps.cli.files "
    "apps.cli.held apps.cli.items apps.cli.journal apps.cli.keys apps.cli.node "
    "apps.cli.papers apps.cli.prove apps.cli.regime apps.cli.seeing apps.clock apps.demo "
    "apps.demo.__main__ apps.demo.coalition apps.demo.signing",
}
PURE = (
    "ground",
    "bytes",
    "marks",
    "labels",
    "agreements",
    "decisions",
    "proofs",
    "records",
    "exchange",
)
# All that the core needs from elsewhere: no clock, socket, disk, randomness, thread or log.
OUTSIDE = (
    "base64 binascii bisect calendar collections contextlib cryptography dataclasses datetime enum "
    "functools hashlib hmac html itertools json math operator re rfc8785 tomllib typing unicodedata"
)
RANKS = {m: rank for rank, names in enumerate(LAYERS.values()) for m in names.split()}


def modules() -> dict[str, Path]:
    found = {}
    for path in (SOURCE / "relto").rglob("*.py"):
        parts = path.relative_to(SOURCE / "relto").with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path
    return found


MODULES = modules()


def imported(path: Path) -> Iterator[str]:
    """Dotted names of everything that the file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            within = [f"{node.module}.{alias.name}" for alias in node.names]
            submodules = [name for name in within if name.removeprefix("relto.") in MODULES]
            yield from submodules or [str(node.module)]


def test_every_module_has_its_layer() -> None:
    assert sorted(RANKS) == sorted(MODULES)


def test_a_module_imports_only_from_its_own_layer_and_below() -> None:
    upwards = [
        f"{name} imports {other}"
        for name, path in MODULES.items()
        for other in imported(path)
        if other.startswith("relto.") and RANKS[other.removeprefix("relto.")] > RANKS[name]
    ]
    assert upwards == []


def test_the_core_imports_no_io_clock_randomness_or_thread() -> None:
    core = {m for layer in PURE for m in LAYERS[layer].split()}
    outside = [
        f"{name} imports {other}"
        for name in sorted(core)
        for other in imported(MODULES[name])
        if other.partition(".")[0] not in {"relto", *OUTSIDE.split()}
    ]
    assert outside == []


def test_adapters_know_nothing_of_decisions_and_of_the_exchange() -> None:
    above = {"decisions", "exchange"}
    known = [
        f"{name} imports {other}"
        for name in LAYERS["adapters"].split()
        for other in imported(MODULES[name])
        if any(other.removeprefix("relto.") in LAYERS[layer].split() for layer in above)
    ]
    assert known == []
