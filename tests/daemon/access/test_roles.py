from itertools import pairwise

import pytest

from daemon.access.roles import LEAST_ROLE, Act, Role, check_role, highest, may, rights
from daemon.errors import NotPermitted


def test_every_act_has_a_least_role():
    assert set(LEAST_ROLE) == set(Act)


def test_each_role_may_do_all_that_the_ones_before_it_may():
    sets = [set(rights(role)) for role in Role]

    assert sets[0] == {Act.READ}
    for lower, higher in pairwise(sets):
        assert lower < higher
    assert sets[-1] == set(Act)


@pytest.mark.parametrize(
    ("role", "act", "allowed"),
    [
        (Role.VIEWER, Act.READ, True),
        (Role.VIEWER, Act.ACKNOWLEDGE, False),
        (Role.OPERATOR, Act.SILENCE, True),
        (Role.OPERATOR, Act.DECIDE, True),
        (Role.OPERATOR, Act.RESOLVE, False),
        (Role.EXPERT, Act.RETRAIN, True),
        (Role.EXPERT, Act.MANAGE_ACCESS, False),
        (Role.ADMIN, Act.MANAGE_ACCESS, True),
    ],
)
def test_the_table_says_who_may_do_what(role, act, allowed):
    assert may(role, act) is allowed


def test_a_refusal_names_the_role_that_suffices():
    with pytest.raises(
        NotPermitted, match="vera may not resolve incidents: the role expert is needed, vera has viewer"
    ):
        check_role("vera", Role.VIEWER, Act.RESOLVE)


def test_of_several_roles_the_one_that_may_do_most_counts():
    assert highest(frozenset({Role.VIEWER, Role.EXPERT, Role.OPERATOR})) is Role.EXPERT
    assert highest(frozenset()) is None
