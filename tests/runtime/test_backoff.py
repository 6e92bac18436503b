"""Back-off by key."""

from __future__ import annotations

from tiphys.runtime.backoff import KeyedBackoff


def test_it_doubles_to_its_maximum_and_starts_over_after_a_long_quiet() -> None:
    backoff = KeyedBackoff(10, 300)
    assert backoff.remaining("key", 0, 0) == 0
    assert not backoff.waits("key", 0)
    delays = []
    now = 0.0
    for _ in range(7):
        backoff.next("key", now, now)
        delays.append(backoff.delay("key"))
        now += backoff.delay("key")
    assert delays == [10, 20, 40, 80, 160, 300, 300]
    assert backoff.remaining("key", now, now + 100) == 200
    backoff.next("key", now + 601 + 300, now + 901)
    assert backoff.delay("key") == 10


def test_a_delay_runs_from_the_last_failure() -> None:
    backoff = KeyedBackoff(1, 900)
    backoff.next("key", 100, 100)
    assert backoff.waits("key", 100.9)
    assert not backoff.waits("key", 101)
    assert not backoff.waits("other", 100)


def test_keys_are_forgotten_by_prefix() -> None:
    backoff = KeyedBackoff(1, 900)
    for key in ("pod-1_a", "pod-1_b", "pod-2_a"):
        backoff.next(key, 0, 0)
    backoff.forget("pod-1")
    assert (backoff.delay("pod-1_a"), backoff.delay("pod-2_a")) == (0, 1)


def test_what_has_expired_takes_no_memory() -> None:
    backoff = KeyedBackoff(1, 10)
    for number in range(1000):
        backoff.next(f"key-{number}", number, number)
        assert len(backoff) <= 21
    backoff.next("key-999", 999, 999)  # a key that fails again is the youngest
    backoff.next("last", 1018.5, 1018.5)
    assert backoff.delay("key-999") == 2
