"""`brixflow down`: ends every process, namespace, bridge and mount of the system. What it stored stays.

It also works after a crash: when the supervisor was killed, a new one takes over what still runs and ends it.
"""

from __future__ import annotations

import shutil
from contextlib import suppress

from local.lock import alone
from local.node.settings import NodeSettings
from local.node.teardown import teardown
from local.settings import LocalSettings
from local.supervisor.client import Report, is_supervised, start_supervisor
from local.supervisor.records import record_directory

KEPT_BY_PURGE = ("cache",)


def down(settings: LocalSettings, report: Report) -> bool:
    """End the system; tells whether anything ran.

    Raises SupervisorError if something cannot be ended, UpError while an `up` is at work.
    """
    home = settings.home
    if not home.exists():
        return False
    with alone(home):
        ran = is_supervised(home) or any(record_directory(home).glob("*.json"))
        if ran:
            start_supervisor(home).shutdown(report)
        _end_leftover_pods(settings)
        _remove_segment(settings)
    return ran


def purge(settings: LocalSettings) -> None:
    """Forget the state: objects, histories, certificates, logs. Built programs stay: they are the checkout's."""
    if not settings.home.exists():
        return
    for entry in settings.home.iterdir():
        if entry.name not in KEPT_BY_PURGE:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    with suppress(OSError):  # the cache is in it
        settings.home.rmdir()


def _end_leftover_pods(settings: LocalSettings) -> None:
    """Pods outlive their agent on purpose. Those of an agent that nobody stopped in order are ended here.

    A home that never had an agent has no pods, and the bridge of its name is another home's.
    """
    if not (settings.home / "node").exists():
        return
    pki = settings.pki
    teardown(
        NodeSettings(
            home=settings.home,
            kubeconfig=settings.node_kubeconfig,
            node_cert=pki / "node.crt",
            node_key=pki / "node.key",
            client_ca=pki / "kubelet-client-ca.crt",
            bridge=settings.bridge,
        )
    )


def _remove_segment(settings: LocalSettings) -> None:
    """The gateway makes it anew; it is memory, which a system that is down should not hold."""
    if settings.segment is None:
        shutil.rmtree(settings.segment_path.parent, ignore_errors=True)
    else:  # a place that the user chose may hold other things
        settings.segment.unlink(missing_ok=True)
