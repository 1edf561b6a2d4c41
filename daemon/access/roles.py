"""Roles, acts, and the table that says which role may do what. Pure: knows no person and no storage."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from daemon.errors import NotPermitted


class Role(StrEnum):
    """What somebody is trusted with; each role may do all that the ones before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    EXPERT = "expert"
    ADMIN = "admin"


class Act(StrEnum):
    """Something that needs a right. The words complete "may not ..."."""

    READ = "read"
    ACKNOWLEDGE = "acknowledge incidents"
    NOTE = "write notes"
    SILENCE = "silence alerts"
    DECIDE = "decide on proposals"
    RESOLVE = "resolve incidents"
    RESPOND = "ask for responses"
    RETRAIN = "ask for retraining"
    JUDGE_REFERENCES = "approve or retire references"
    WORK_ON_BOARDS = "work on boards by hand"
    MANAGE_ACCESS = "manage tokens and passwords of others"
    RECONFIGURE = "reload the configuration"


LEAST_ROLE: Final[dict[Act, Role]] = {
    Act.READ: Role.VIEWER,
    Act.ACKNOWLEDGE: Role.OPERATOR,
    Act.NOTE: Role.OPERATOR,
    Act.SILENCE: Role.OPERATOR,
    Act.DECIDE: Role.OPERATOR,
    Act.RESOLVE: Role.EXPERT,
    Act.RESPOND: Role.EXPERT,
    Act.RETRAIN: Role.EXPERT,
    Act.JUDGE_REFERENCES: Role.EXPERT,
    Act.WORK_ON_BOARDS: Role.EXPERT,
    Act.MANAGE_ACCESS: Role.ADMIN,
    Act.RECONFIGURE: Role.ADMIN,
}
"""The least role that may do each act. A model's list of approvers may narrow it further, never widen it."""

_RANK: Final = {role: rank for rank, role in enumerate(Role)}


def may(role: Role, act: Act) -> bool:
    """Tell whether a role suffices for an act."""
    return _RANK[role] >= _RANK[LEAST_ROLE[act]]


def rights(role: Role) -> tuple[Act, ...]:
    """List what a role may do."""
    return tuple(act for act in Act if may(role, act))


def highest(roles: frozenset[Role]) -> Role | None:
    """Choose the role that may do most; None of none."""
    return max(roles, key=_RANK.__getitem__, default=None)


def check_role(name: str, role: Role, act: Act) -> None:
    """Refuse an act that a role does not suffice for.

    Raises
    ------
    NotPermitted
        It does not; the message names the role that does.
    """
    if not may(role, act):
        raise NotPermitted(
            f"{name} may not {act}: the role {LEAST_ROLE[act]} is needed, {name} has {role}; "
            f"roles are given under [operators] in lumiwatch.toml"
        )
