"""How a new revision reaches the RoleSets: by replacing them, or by rewriting them where they are."""

from __future__ import annotations

from planning.fleet import Fleet, FleetMoves


def roll(fleet: Fleet) -> FleetMoves:
    """One pass of the rollout, within the budget. What has the target's pods already is rewritten first, and free."""
    if same := [member for member in fleet.outdated if member.alike]:
        return FleetMoves(rewrites=same)
    return rewrite(fleet) if fleet.in_place else replace(fleet)


def replace(fleet: Fleet) -> FleetMoves:
    """RollingUpdate: outdated RoleSets that are not ready go, ready ones as long as enough stay; new ones come.

    Stands still once as many as desired are at the update revision, those that leave included: scaling takes the rest.
    """
    at_update = sum(member.revision == fleet.update for member in fleet.members)
    if at_update == fleet.budget.desired:
        return FleetMoves()
    ready, chosen = fleet.ready, []
    for member in fleet.deletion_order(fleet.outdated):
        if member.ready and ready <= fleet.budget.min_available:
            break
        ready -= member.ready
        chosen.append(member)
    count = min(fleet.budget.most - len(fleet.members), fleet.budget.desired - len(fleet.updated))
    return FleetMoves(creates=[(fleet.update, count)] if count > 0 else [], deletes=chosen)


def rewrite(fleet: Fleet) -> FleetMoves:
    """InPlaceUpdate: outdated RoleSets are rewritten, not more at a time than may be unavailable.

    A rewritten RoleSet is available again once all its roles are updated and ready; one that was not ready before costs
    nothing. Surge has no meaning here, so at least one may always be unavailable.
    """
    unavailable = max(1, fleet.budget.unavailable)
    available = sum(member.settled if member.revision == fleet.update else member.ready for member in fleet.active)
    spare = available - (fleet.budget.desired - unavailable)
    chosen = []
    for member in sorted(fleet.outdated, key=lambda member: member.ready):
        if member.ready:
            if spare <= 0:
                break
            spare -= 1
        chosen.append(member)
    return FleetMoves(rewrites=chosen)
