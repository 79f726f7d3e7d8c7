from __future__ import annotations

import threading
import time

from explorer.kept import Kept


def test_a_value_is_made_once_until_others_have_taken_its_place():
    made: list[str] = []
    kept: Kept[str, str] = Kept(2)

    def ask(key: str) -> str:
        return kept.get(key, lambda: made.append(key) or key.upper())

    assert [ask("a"), ask("b"), ask("a"), ask("c")] == ["A", "B", "A", "C"]
    assert made == ["a", "b", "c"]
    ask("a")
    assert made == ["a", "b", "c"], "it was asked for again, so the other one has gone"
    ask("b")
    assert made == ["a", "b", "c", "b"]
    kept.clear()
    ask("b")
    assert made[-1:] == ["b"]
    assert len(made) == 5


def test_what_is_not_worth_it_is_made_every_time():
    made: list[int] = []
    kept: Kept[str, int] = Kept(2, is_worth_keeping=lambda value: value < 10)
    for value in (1, 99):
        for _ in range(2):
            assert kept.get(str(value), lambda value=value: made.append(value) or value) == value
    assert made == [1, 99, 99]


def test_two_who_ask_at_once_have_it_made_once():
    made: list[float] = []
    kept: Kept[str, float] = Kept(2)

    def make() -> float:
        time.sleep(0.2)
        made.append(time.monotonic())
        return made[-1]

    threads = [threading.Thread(target=kept.get, args=("same", make)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
