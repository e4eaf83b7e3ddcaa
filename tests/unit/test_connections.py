"""Which of an HTTP server's connections goes when there is no room for another."""

from __future__ import annotations

from ryu_apps.connections import Connection, Room


class Crowd:
    """A room with connections by name; notes who had to go."""

    def __init__(self, most: int = 20, most_held: int = 1000) -> None:
        self.gone: list[str] = []
        self.room = Room(most, most_held, lambda connection, held: self.gone.append(connection[1]))

    def come(self, name: str, peer: str = "a", *, asks: bool = False) -> Connection:
        connection = Connection(self.room, (peer, 1), name, "idle")
        self.room.enter(connection)
        if asks:
            self.room.begin(connection)
        return connection


def test_the_longest_waiting_goes_first() -> None:
    """A new client would have no time to send its request."""
    crowd = Crowd()
    first, _ = crowd.come("first"), crowd.come("second")
    crowd.room.begin(first)
    crowd.room.finish(first)
    assert [crowd.room.make() for _ in range(3)] == [True, True, False]
    assert crowd.gone == ["second", "first"]


def test_who_waits_for_us_stays() -> None:
    """An agent's stream, or a long command, would be cut off by whoever opens connections."""
    crowd = Crowd()
    one = crowd.come("one", asks=True)
    assert not crowd.room.make()
    with one.waiting(10):
        assert crowd.room.make()
    assert crowd.gone == ["one"]


def test_the_address_with_most_connections_gives_way() -> None:
    """One machine that opens many would take the room of all others, whose connections are older."""
    crowd = Crowd()
    crowd.come("agent", "h1")
    for number in range(3):
        crowd.come(f"flood{number}", "evil")
    assert crowd.room.make() and crowd.room.make()
    assert crowd.gone == ["flood0", "flood1"]


def test_requests_have_a_limit_of_their_own() -> None:
    """As many slow requests as there are connections would leave none that can be ended."""
    crowd = Crowd(most=20)
    asking = [crowd.come(f"r{n}", asks=True) for n in range(13)]
    assert all(crowd.room.admitted(c) for c in asking), "of 18 in all, three quarters are for one address"
    late = crowd.come("late", asks=True)
    assert not crowd.room.admitted(late)
    crowd.room.finish(late)
    other = crowd.come("other", "b", asks=True)
    assert crowd.room.admitted(other), "others have room"
    with asking[3].waiting():
        again = crowd.come("again", asks=True)
        assert crowd.room.admitted(again), "instead of one whose client is slow"
    assert crowd.gone == ["r3"]


def test_bytes_have_a_limit() -> None:
    """Clients that take nothing of what they ask for would fill the memory."""
    crowd = Crowd(most_held=1000)
    slow, slower, last = (crowd.come(name, asks=True) for name in ("slow", "slower", "last"))
    slow.received(300)
    with slow.waiting(300):
        with slower.waiting(300), last.waiting(200):
            assert crowd.gone == ["slow"], "the first one that held bytes"
        assert crowd.room._held == 0
    with last.waiting(5000):
        assert crowd.gone == ["slow"], "one alone may be larger"
    for connection in (slow, slower, last):
        crowd.room.leave(connection)
    assert (crowd.room._held, crowd.room._connections, crowd.room._requests) == (0, {}, {})
    assert not crowd.room._idle and not crowd.room._stalled
