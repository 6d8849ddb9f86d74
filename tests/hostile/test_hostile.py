"""Whatever somebody hostile does to the hub, honest items go on, and it gets no more than it may.

How much slower they go is measured by `make soak HOSTILE=1`; here nothing is timed.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from e2e.nodes import until
from hostile.attacks import ATTACKS, attacker
from hostile.nodes import HONEST, Besieged, besieged
from relto.config import Quota
from relto.links import Limits

OVER_S = 60.0  # an attack that nobody ends
OWN_DESCRIPTORS = 40  # store, logs, its own connections


@pytest.fixture(scope="module")
def nodes() -> Iterator[Besieged]:
    with besieged() as nodes:
        yield nodes


@contextmanager
def attacked(nodes: Besieged, name: str) -> Iterator[None]:
    """While the hub is attacked: from the first that the attacker has done, to the end."""
    enemy = attacker(nodes, name, OVER_S)
    assert enemy.stdout is not None
    try:
        assert enemy.stdout.readline() == "begun\n"
        yield
        assert enemy.poll() is None, "the attack ended by itself"
    finally:
        enemy.kill()
        enemy.communicate()


@pytest.mark.parametrize("name", ATTACKS)
def test_honest_items_arrive_while_the_hub_is_attacked(nodes: Besieged, name: str) -> None:
    limits = Limits()
    descriptors = limits.handshakes_max + limits.connections_per_peer_max + OWN_DESCRIPTORS
    with attacked(nodes, name):
        for precedence in ("FLASH", "ROUTINE"):
            nodes.carried_ms(precedence)  # raises TimeoutError if it does not arrive
            assert nodes.descriptors("USA") <= descriptors
    assert all(nodes.processes[party].poll() is None for party in HONEST)


def test_the_hub_says_who_reached_which_limit(nodes: Besieged) -> None:
    with attacked(nodes, "half-sent"):
        until(lambda: nodes.peers_of("USA")["AUS"]["limits"], "the hub says so")
    peers = nodes.peers_of("USA")
    assert 0 < peers["AUS"]["half_sent"] <= Quota().transfers_max
    assert [peers[party]["limits"] for party in ("JPN", "KOR")] == [[], []]
    assert nodes.at("USA", "node", "status").out.count("reached its limits of") == 1
