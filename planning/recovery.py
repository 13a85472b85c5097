"""What one failed pod means to the rest: nothing, or the end of all pods of the RoleSet (`recoveryPolicy: Service`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from planning.flight import time_in
from planning.members import Member, Moves, Role

# Pods so young are not all replaced again: a pod that keeps failing must not keep the others from ever starting.
SHORTEST_INTERVAL: Final = timedelta(seconds=60)


def service_recovery(roles: Sequence[Role], now: datetime) -> tuple[Mapping[str, Moves], datetime | None]:
    """Deletions of all pods when one of a role with that policy has failed, and when to look again if it is too early.

    What has failed goes last: a decision too large for one pass is so taken up by the next.
    """
    failed = {role.name: [m for m in role.members if _has_failed(m)] for role in roles if role.recovers_service}
    if not any(failed.values()):
        return {}, None
    at = _youngest(roles) + SHORTEST_INTERVAL
    if now < at:
        return {}, at
    moves = {}
    for role in sorted(roles, key=lambda role: bool(failed.get(role.name))):
        broken = failed.get(role.name, [])
        sound = [member for member in role.members if not (member.leaving or member.gone) and member not in broken]
        moves[role.name] = Moves(deletes=(*sound, *broken))
    return {name: found for name, found in moves.items() if found}, None


def _has_failed(member: Member) -> bool:
    """It ended, or one of its containers was started again by the node; an in-place update is no failure."""
    return member.ended or (member.active and member.flight is None and member.restarts > 0)


def _youngest(roles: Sequence[Role]) -> datetime:
    times = [time_in(member.created) for role in roles for member in role.members]
    return max(time for time in times if time is not None)
