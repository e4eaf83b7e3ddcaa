"""Who waits for the switches is woken when they have gone on. If these fail, answers come seconds late."""

from __future__ import annotations

from ryu_apps.framework import Progress, hub


def test_all_who_wait_are_woken() -> None:
    """One of two clients that made a change at once would wait for seconds, though the switches carry it out."""
    progress, said = Progress(), list[int]()
    reached = 0

    def wait(number: int) -> None:
        assert progress.wait_for(lambda: reached >= number, 30)
        said.append(number)

    threads = [hub.spawn(wait, number) for number in (2, 1, 1)]
    hub.sleep(0)
    for reached in (0, 1, 2):
        progress.made()
        hub.sleep(0)
        hub.sleep(0)
        assert sorted(said) == [1] * (2 * (reached >= 1)) + [2] * (reached >= 2)
    for thread in threads:
        thread.wait()


def test_what_does_not_come_is_not_waited_for() -> None:
    """A change would never be answered while one switch hangs; and each such wait would be remembered for ever."""
    progress = Progress()
    assert not progress.wait_for(lambda: False, 0.05)
    assert progress._waiting == []
    assert progress.wait_for(lambda: True, 0)
