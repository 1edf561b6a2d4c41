"""What the Mattermost server sends: a pressed button, a filled-in form. What is not needed is not read.

Source: Mattermost, `PostActionIntegrationRequest` and `SubmitDialogRequest`. Nothing here is believed yet.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class Press(BaseModel):
    """A pressed button."""

    user_id: str
    channel_id: str
    post_id: str
    trigger_id: str = ""
    context: dict[str, Any] = Field(default_factory=dict)


class Submission(BaseModel):
    """A filled-in form.

    Its channel is not read: it is the one that the person's window shows, which may be far from the post. The
    channel of the post was looked at when the form was opened.
    """

    state: str
    user_id: str
    submission: dict[str, Any] | None = None
    cancelled: bool = False
