"""From the number of RoleSets that exist to the number that is asked for, during a rollout too."""

from __future__ import annotations

from planning.fleet import Fleet, FleetMoves, Replica


def scale(fleet: Fleet) -> FleetMoves:
    """One pass of scaling. In a paused rollout both revisions scale in proportion, else the budget rules."""
    surplus = len(fleet.active) - fleet.budget.desired
    if fleet.stalled:
        return _hold(fleet, surplus)
    proportional = fleet.paused and not fleet.is_single
    if surplus == 0:
        return FleetMoves()
    if surplus < 0:
        return _grow_both(fleet) if proportional else _grow(fleet, -surplus)
    return _shrink_both(fleet, surplus) if proportional else _shrink(fleet, surplus)


def _most(fleet: Fleet) -> int:
    return fleet.budget.desired if fleet.in_place else fleet.budget.most


def _grow(fleet: Fleet, missing: int, revision: str = "") -> FleetMoves:
    """New RoleSets, at the update revision unless told otherwise; those that still leave count."""
    count = min(missing, _most(fleet) - len(fleet.members))
    return FleetMoves(creates=[(revision or fleet.update, count)], acted=True) if count > 0 else FleetMoves()


def _hold(fleet: Fleet, surplus: int) -> FleetMoves:
    """The update revision has failed: what serves is kept and made up for at the current revision.

    Of those that are not ready as many stay as surge allows, so that the failed revision may still come up.
    """
    if surplus < 0:
        return _grow(fleet, -surplus, fleet.current)
    idle = [member for member in fleet.active if not member.ready]
    idle.sort(key=lambda member: member.revision != fleet.update)
    serving = fleet.deletion_order(member for member in fleet.active if member.ready)
    gone = serving[: max(0, len(serving) - fleet.budget.desired)]
    room = _most(fleet) - (len(serving) - len(gone))
    chosen = idle[: max(0, len(idle) - room)] + gone
    return FleetMoves(deletes=chosen, acted=bool(chosen))


def _grow_both(fleet: Fleet) -> FleetMoves:
    """In proportion of the counts last shown; these may be of an earlier target, so the surge bounds the sum."""
    current, updated = split(fleet.budget.desired, fleet.shown_current, fleet.shown_updated)
    wanted = ((fleet.current, current - len(fleet.outdated)), (fleet.update, updated - len(fleet.updated)))
    room, creates = _most(fleet) - len(fleet.members), []
    for revision, missing in wanted:
        if (count := min(missing, room)) > 0:
            creates.append((revision, count))
            room -= count
    return FleetMoves(creates=creates, acted=bool(creates))


def _shrink(fleet: Fleet, surplus: int) -> FleetMoves:
    """In deletion order down to the floor of ready ones; what is plainly too many goes behind it too."""
    floor = 0 if fleet.in_place else fleet.budget.min_available
    ready, chosen = fleet.ready, list[Replica]()
    for member in fleet.deletion_order(fleet.active):
        if len(chosen) == surplus or (member.ready and ready <= floor):
            break
        ready -= member.ready
        chosen.append(member)
    chosen += _beyond_desired(fleet, chosen)[: surplus - len(chosen)]
    return FleetMoves(deletes=chosen, acted=bool(chosen))


def _beyond_desired(fleet: Fleet, chosen: list[Replica]) -> list[Replica]:
    """RoleSets that are not ready and more than anybody asked for: no surge, but a scale-in's rest.

    That is whatever exceeds the surge, and updated ones beyond the number that is desired.
    """
    going = {member.name for member in chosen}
    kept = [member for member in fleet.deletion_order(fleet.active) if member.name not in going]
    waiting = [member for member in kept if not member.ready]
    updated = [member for member in waiting if member.revision == fleet.update]
    beyond = waiting[: max(0, len(kept) - _most(fleet))]
    rest = len(fleet.updated) - sum(m.revision == fleet.update for m in (*chosen, *beyond)) - fleet.budget.desired
    return beyond + [member for member in updated if member not in beyond][: max(0, rest)]


def _shrink_both(fleet: Fleet, surplus: int) -> FleetMoves:
    """Not ready ones first; when these do not suffice all of them, and ready ones of both revisions in proportion."""
    waiting = [member for member in fleet.active if not member.ready]
    if surplus <= len(waiting):
        return FleetMoves(deletes=waiting[:surplus])
    outdated = [member for member in fleet.outdated if member.ready]
    updated = [member for member in fleet.updated if member.ready]
    keep_outdated, keep_updated = split(fleet.budget.desired, len(outdated), len(updated))
    chosen = (
        waiting + outdated[: max(0, len(outdated) - keep_outdated)] + updated[: max(0, len(updated) - keep_updated)]
    )
    return FleetMoves(deletes=chosen, acted=bool(chosen))


def split(desired: int, current: int, updated: int) -> tuple[int, int]:
    """`desired` in proportion of `current` to `updated`, halves rounded away from zero, the rest to the updated.

    10 split like 1 : 10 is 1 and 9 (both round to 1 and 9; a sum that misses is mended in the second).
    """
    total = current + updated
    if desired == total:
        return current, updated
    first = _rounded(current * desired, total) if total else 0
    second = _rounded(updated * desired, total) if total else 0
    return first, second if first + second == desired else desired - first


def _rounded(parts: int, total: int) -> int:
    return (2 * parts + total) // (2 * total)
