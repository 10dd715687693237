"""The address of a server's broker: that of its name, or the next free one."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from broker.integrations.free_address import FreeAddress
from tests.brokers import folder, serving
from tests.workers import Talk, worker


def hold(talk: Talk) -> None:
    talk.say("forked")
    talk.hear()


def test_it_is_the_servers_as_long_as_a_process_of_it_lives() -> None:
    """A worker that outlives its arbiter meets no other app's broker at the address that it knows."""
    with folder() as place:
        wanted = place / "shop.sock"
        arbiters = FreeAddress(wanted)
        assert arbiters.path == wanted
        with worker(hold, talk=True) as child:
            assert child.hear() == "forked"
            arbiters.release()
            other = FreeAddress(wanted)
            assert other.path == place / "shop-2.sock"
            other.release()
            child.say("end")
            child.result()
        again = FreeAddress(wanted)
        assert again.path == wanted
        again.release()


def test_a_live_brokers_is_not_free() -> None:
    """That of a broker of another kind, or of one that only its socket shows; a dead one's is."""
    with folder() as place:
        with serving("double", path=place / "shop.sock"), socket.socket(socket.AF_UNIX) as elsewhere:
            elsewhere.bind(os.fspath(place / "shop-2.sock"))
            elsewhere.listen()
            assert chosen(place / "shop.sock") == place / "shop-3.sock"
        assert chosen(place / "shop.sock") == place / "shop.sock"
        assert chosen(place / "shop-2.sock") == place / "shop-2.sock"


def chosen(wanted: Path) -> Path:
    address = FreeAddress(wanted)
    address.release()
    return address.path
