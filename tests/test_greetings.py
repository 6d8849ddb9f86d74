"""Handshakes: what one address gets, what strangers get together, and who is known."""

from relto.buckets import NAMES_MAX, Buckets
from relto.links.greetings import KNOWN_MS, KNOWN_PER_PEER, Greetings
from relto.links.http import Limits

LIMITS = Limits(
    handshakes_per_s=10,
    handshakes_at_once=20,
    address_handshakes_per_s=2,
    address_handshakes_at_once=4,
)


def granted(greetings: Greetings, host: str, times: int, now_ms: float = 0) -> int:
    return sum(greetings.grants(host, now_ms) for _ in range(times))


def test_an_address_gets_so_many_at_once_and_then_so_many_in_a_second() -> None:
    greetings = Greetings(LIMITS)
    assert granted(greetings, "192.0.2.1", 100) == 4
    assert granted(greetings, "192.0.2.2", 100) == 4
    assert granted(greetings, "192.0.2.1", 100, 499) == 0
    assert granted(greetings, "192.0.2.1", 100, 500) == 1
    assert granted(greetings, "192.0.2.1", 100, 1_500) == 2
    assert granted(greetings, "192.0.2.1", 100, 100_000) == 4
    assert greetings.refused == 96 + 96 + 100 + 99 + 98 + 96


def test_strangers_get_so_many_together_however_many_they_are() -> None:
    greetings = Greetings(LIMITS)
    hosts = [f"192.0.2.{n}" for n in range(200)]
    assert sum(greetings.grants(host, 0) for host in hosts) == 20
    assert sum(greetings.grants(host, 1_000) for host in hosts) == 10


def test_who_is_refused_takes_nothing_from_what_strangers_have() -> None:
    greetings = Greetings(LIMITS)
    assert granted(greetings, "192.0.2.1", 1_000) == 4
    assert sum(greetings.grants(f"192.0.2.{n}", 0) for n in range(2, 100)) == 16


def test_an_address_from_which_a_peer_came_has_its_own_whatever_strangers_do() -> None:
    greetings = Greetings(LIMITS)
    greetings.came("KOR", "198.51.100.1", 0)
    assert sum(greetings.grants(f"192.0.2.{n}", 1) for n in range(200)) == 20
    assert granted(greetings, "198.51.100.1", 100, 1) == 4
    day = KNOWN_MS - 1
    assert sum(greetings.grants(f"192.0.2.{n}", day) for n in range(200)) == 20
    assert granted(greetings, "198.51.100.1", 100, day) == 4
    assert sum(greetings.grants(f"203.0.113.{n}", day + 10_000) for n in range(200)) == 20
    assert granted(greetings, "198.51.100.1", 100, day + 10_000) == 0  # a day has gone


def test_a_peer_has_so_many_known_addresses_the_latest_and_takes_none_of_anothers() -> None:
    greetings = Greetings(LIMITS)
    greetings.came("KOR", "198.51.100.1", 0)
    for n in range(KNOWN_PER_PEER + 1):
        greetings.came("AUS", f"203.0.113.{n}", 0)
    assert sum(greetings.grants(f"192.0.2.{n}", 0) for n in range(200)) == 20
    assert granted(greetings, "198.51.100.1", 1) == 1
    assert [granted(greetings, f"203.0.113.{n}", 1) for n in range(KNOWN_PER_PEER + 1)] == [
        0,
        *[1] * KNOWN_PER_PEER,
    ]


def test_who_chooses_addresses_within_a_network_of_ipv6_is_one_address() -> None:
    greetings = Greetings(LIMITS)
    assert sum(greetings.grants(f"2001:db8:0:1::{n}", 0) for n in range(100)) == 4
    assert greetings.grants("2001:db8:0:2::1", 0)
    assert greetings.grants("fe80::1%eth0", 0)
    assert granted(greetings, "192.0.2.1", 2) + granted(greetings, "::ffff:192.0.2.1", 9) == 4


def test_no_more_names_are_kept_than_lately_took_a_token() -> None:
    buckets = Buckets(1, 2)
    for n in range(3 * NAMES_MAX):
        assert buckets.take(str(n), n * 10.0)  # each is full again after a second
    assert len(buckets) <= NAMES_MAX
    assert not buckets.has(str(3 * NAMES_MAX - 1), 0)
