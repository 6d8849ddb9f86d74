"""Keys are made once for all end-to-end tests; every coalition is of real processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.nodes import LINKS, PARTIES, PAYLOAD_BYTES_MAX, Nodes, make_keys

REPOSITORY = Path(__file__).parents[2]
TISA = REPOSITORY / "regimes" / "tisa"
CARRIED = REPOSITORY / "tests" / "data" / "carried"


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with exercise keys of every party, in the places that `Coalition` has them."""
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder)
    return folder


@pytest.fixture(scope="session")
def tisa(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Three nodes under the pact of 2014, in March 2015."""
    with Nodes(tmp_path_factory.mktemp("tisa"), TISA, PARTIES, LINKS, keys=keys) as nodes:
        nodes.make()
        for party in PARTIES:
            nodes.limit(party, PAYLOAD_BYTES_MAX)
        nodes.start_all()
        nodes.set_clock("2015-03-02T01:00:00Z")
        yield nodes


@pytest.fixture(scope="session")
def carried(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Three nodes under `tests/data/carried`, which has a clause for each way to carry."""
    with Nodes(tmp_path_factory.mktemp("carried"), CARRIED, PARTIES, LINKS, keys=keys) as nodes:
        nodes.make()
        nodes.start_all()
        yield nodes
