"""Who a user of the chat is at this site, and whether they may act.

A chat user is known by the id that the Mattermost server gives, never by a name, which people can change.
Refuses to know what was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from daemon.access.roles import Act
from daemon.chat.refusal import Reason, Refused
from daemon.operations import Access
from daemon.site.sections import OperatorSettings

_USER_ID = re.compile(r"[a-z0-9]{1,26}")


class ChatPeople:
    """The operators that act from the chat.

    Parameters
    ----------
    operators
        As configured; those without `mattermost_user_id` cannot act from the chat.
    access
        Knows their rights; asked at every act.
    """

    def __init__(self, operators: Mapping[str, OperatorSettings], access: Access) -> None:
        self._names = {
            operator.mattermost_user_id: name
            for name, operator in operators.items()
            if operator.mattermost_user_id is not None
        }
        self._access = access

    def operator(self, user_id: str, act: Act) -> str:
        """Give the name of the operator behind a chat user, if they may do this.

        Raises
        ------
        Refused
            Nobody listed (`unlisted`).
        NotPermitted
            The role does not suffice, or the operator is no longer declared.
        """
        name = self._names.get(user_id)
        if name is None:
            raise Refused(
                Reason.UNLISTED,
                f"You are not listed at this lumiwatch (user id `{shown(user_id)}`): ask its administrator "
                "for `mattermost_user_id` under `[operators.<name>]`. Nothing was done.",
            )
        self._access.check(name, act)
        return name


def shown(user_id: str) -> str:
    """Give a user id for texts and logs: what has not the form of one is not repeated."""
    return user_id if _USER_ID.fullmatch(user_id) else "(malformed)"
