"""Where the control plane listens: what one controller knows, and what several tell each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from ryu_apps import listeners
from ryu_apps.listeners import ControlPlane, machine_addresses
from topology.announced import Announced
from topology.etcd import Etcd, parse_url, put
from topology.store import StoreUnavailable

OPENFLOW = ("127.0.0.1", 6653)
TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 192.0.2.0
        /24 link UNICAST
Local:
  +-- 0.0.0.0/0 2 0 2
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 192.0.2.7
        /32 host LOCAL
     |-- 192.0.2.255
        /32 link BROADCAST
"""


def test_one_controller() -> None:
    """Agents would not be told of it."""
    plane = ControlPlane(("127.0.0.1", 9999), OPENFLOW, "https://netctl.example/api")
    plane.step()
    assert plane.known() == ["tcp:127.0.0.1:6653", "tcp:127.0.0.1:9999", "tcp:netctl.example:443"]


@pytest.mark.parametrize("wildcard", ["0.0.0.0", "::", ""])
def test_a_listener_on_all_addresses(wildcard: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A controller on 0.0.0.0 would be open at each of its machine's addresses."""
    (tmp_path / "trie").write_text(TRIE)
    monkeypatch.setattr(listeners, "machine_addresses", lambda: machine_addresses(tmp_path / "trie"))
    plane = ControlPlane((wildcard, 9999), OPENFLOW, "")
    plane.step()
    assert plane.known() == ["tcp:127.0.0.1:6653", "tcp:127.0.0.1:9999", "tcp:192.0.2.7:9999"]


def test_this_machine_has_addresses(tmp_path: Path) -> None:
    """The kernel would say it in other words than we read."""
    assert "127.0.0.1" in machine_addresses()
    assert machine_addresses(tmp_path / "none") == ["127.0.0.1"]


def test_several_controllers(etcd_url: str) -> None:
    """An agent that knows one of several controllers would let containers reach the others, or etcd."""
    url = parse_url(etcd_url)
    one, two = (Announced(Etcd(url), f"http://192.0.2.{n}:9999") for n in (11, 12))
    client = {f"tcp:{host}:{port}" for host, port in url.members}
    assert one.step({"tcp:192.0.2.11:9999"}) >= {"tcp:192.0.2.11:9999", *client}
    assert two.step({"tcp:192.0.2.12:9999"}) >= {"tcp:192.0.2.11:9999", "tcp:192.0.2.12:9999"}
    seen = one.step({"tcp:192.0.2.11:9998"})
    assert {"tcp:192.0.2.11:9998", "tcp:192.0.2.12:9999"} <= seen
    assert "tcp:192.0.2.11:9999" not in seen
    assert len(seen - {"tcp:192.0.2.11:9998", "tcp:192.0.2.12:9999"}) > len(client), "the members' own, for each other"


def test_what_another_has_written_is_not_believed(etcd_url: str) -> None:
    """A key that somebody wrote by hand would end each controller."""
    etcd = Etcd(parse_url(etcd_url))
    one = Announced(etcd, "http://192.0.2.11:9999")
    for value in ('["tcp:192.0.2.13:1", 7, null, "tcp:x:0"]', "{", '"tcp:192.0.2.14:1"'):
        other = f"{etcd.prefix}/listeners/other"
        etcd.txn([], [put(other, value)])
        found = one.step(())
        assert ("tcp:192.0.2.13:1" in found) == value.startswith("[")
        assert not [text for text in found if "192.0.2.14" in text or ":x:" in text]


def test_etcd_is_away_at_the_start() -> None:
    """A controller that knows only itself would have the agents open the others, and etcd."""
    plane = ControlPlane(
        ("127.0.0.1", 9999), OPENFLOW, "", Announced(Etcd(parse_url("etcd://127.0.0.1:1/x")), "http://h:1")
    )
    plane.step()
    assert plane.known() == [], "nothing, so that agents keep what they have been told"


def test_etcd_goes_away(etcd_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was known would be forgotten, and open."""
    announced = Announced(Etcd(parse_url(etcd_url)), "http://192.0.2.11:9999")
    plane = ControlPlane(("127.0.0.1", 9999), OPENFLOW, "", announced)
    plane.step()
    before = plane.known()
    assert len(before) > 2

    def away(own: object) -> set[str]:
        raise StoreUnavailable("away")

    monkeypatch.setattr(announced, "step", away)
    plane.step()
    assert plane.known() == before
