"""The hub that published weights come from, asked first whether it answers: its client alone tries for a minute."""

import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from urllib.parse import urlsplit

from huggingface_hub import constants

PATIENCE = 10.0
"""Seconds in which a hub that can be reached has answered."""


@contextmanager
def offline_where_silent() -> Iterator[None]:
    """Tell the hub's client that it is offline where the hub does not answer: it then takes what it has kept of earlier
    times, or says at once that it has nothing."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not answers(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def answers(address: str) -> bool:
    """Whether a server takes a connection. Behind a proxy, which cannot be told so quickly, it is taken to."""
    if urllib.request.getproxies():
        return True
    parts, found = urlsplit(address), list[bool]()

    def connect() -> None:
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname or "", port), PATIENCE).close()
            found.append(True)
        except OSError:
            pass

    # In a thread, since the look-up of a name has no limit of its own.
    asking = Thread(target=connect, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    return bool(found)
