"""What a Mattermost server takes as attachments with buttons, and as a form.

Source: its REST reference and the limits of its models.
"""

import re
from collections.abc import Iterator

STYLES = {"default", "primary", "success", "good", "warning", "danger"}
ATTACHMENT_FIELDS = {
    "fallback", "color", "pretext", "text", "title", "title_link", "fields", "footer", "actions",
}  # fmt: skip
ACTION_FIELDS = {"id", "type", "name", "disabled", "style", "data_source", "options", "integration"}
ELEMENT_FIELDS = {
    "display_name", "name", "type", "subtype", "default", "placeholder", "help_text", "optional",
    "min_length", "max_length", "data_source", "options",
}  # fmt: skip
DIALOG_FIELDS = {
    "callback_id", "title", "introduction_text", "icon_url", "elements", "submit_label",
    "notify_on_cancel", "state",
}  # fmt: skip


def faults_of_props(props: dict) -> list[str]:
    """List what is wrong with the props of a post."""
    return [fault for attachment in props.get("attachments", ()) for fault in _of_attachment(attachment)]


def faults_of_dialog(dialog: dict) -> list[str]:
    """List what is wrong with a form."""
    faults = [f"unknown {name}" for name in set(dialog) - DIALOG_FIELDS]
    if not 1 <= len(dialog.get("title", "")) <= 24:
        faults.append(f"title {dialog.get('title')!r}")
    names = [element.get("name") for element in dialog["elements"]]
    if len(set(names)) < len(names):
        faults.append("an element twice")
    return faults + [fault for element in dialog["elements"] for fault in _of_element(element)]


def _of_attachment(attachment: dict) -> Iterator[str]:
    yield from (f"unknown {name}" for name in set(attachment) - ATTACHMENT_FIELDS)
    ids = [action.get("id", "") for action in attachment.get("actions", ())]
    if len(set(ids)) < len(ids):
        yield "an action id twice"
    for action in attachment.get("actions", ()):
        yield from _of_action(action)


def _of_action(action: dict) -> Iterator[str]:
    yield from (f"unknown {name}" for name in set(action) - ACTION_FIELDS)
    if not re.fullmatch(r"[A-Za-z0-9]+", action.get("id", "")):
        yield f"action id {action.get('id')!r} is not alphanumeric"
    if not action.get("name"):
        yield "an action without a name"
    if action.get("type") != "button":
        yield f"action type {action.get('type')!r}"
    if action.get("style", "default") not in STYLES:
        yield f"style {action['style']!r}"
    integration = action.get("integration") or {}
    if not re.match(r"https?://[^/]+/", integration.get("url", "")):
        yield f"integration url {integration.get('url')!r} is not absolute"
    if set(integration) - {"url", "context"}:
        yield "unknown field of an integration"


def _of_element(element: dict) -> Iterator[str]:
    yield from (f"unknown {name}" for name in set(element) - ELEMENT_FIELDS)
    if not 1 <= len(element.get("display_name", "")) <= 24:
        yield f"display_name {element.get('display_name')!r}"
    if not 1 <= len(element.get("name", "")) <= 300:
        yield f"element name {element.get('name')!r}"
    if len(element.get("help_text", "")) > 150:
        yield f"help_text of {element['name']} is too long"
    if element.get("min_length", 0) > element.get("max_length", 3000):
        yield f"lengths of {element['name']}"
    match element.get("type"):
        case "select":
            values = [option["value"] for option in element["options"]]
            if element.get("default") and element["default"] not in values:
                yield f"default of {element['name']} is no option"
            if not all(option["text"] and option["value"] for option in element["options"]):
                yield f"an empty option of {element['name']}"
        case "textarea":
            if element.get("max_length", 3000) > 3000:
                yield f"max_length of {element['name']}"
        case kind:
            yield f"element type {kind!r}"
