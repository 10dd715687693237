"""What gevent or eventlet have made of this process. Neither is imported: who does not use them pays a look or two."""

from __future__ import annotations

import sys


def gevent_has_patched() -> bool:
    """Threads are greenlets, and locks wait for greenlets."""
    return _has_patched("gevent.monkey", "is_module_patched", "threading")


def eventlet_has_patched() -> bool:
    return _has_patched("eventlet.patcher", "is_monkey_patched", "thread")


def in_hub() -> bool:
    """Where nothing may wait: in gevent's event loop itself, where the garbage collector runs as well."""
    if not gevent_has_patched():
        return False
    import gevent
    from gevent.hub import get_hub

    return gevent.getcurrent() is get_hub()


def _has_patched(module: str, question: str, what: str) -> bool:
    found = sys.modules.get(module)
    return found is not None and bool(getattr(found, question)(what))
