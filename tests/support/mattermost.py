"""A stand-in for a Mattermost server, as strict as the REST reference: unknown or missing fields are refused.

It answers through `httpx.MockTransport` (no socket), or behind a real socket with `serving`.
What it knows: bot token, users/me, posts with threads and de-duplication, patch, files, incoming webhook,
rate limit and outages on demand; and what people do: press buttons, fill forms in, type a slash command. What
those reach is called through `reach`: an application, or the network.
"""

import asyncio
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlencode

import httpx

from tests.support.mattermost_rules import faults_of_dialog, faults_of_props

POST_FIELDS = {"channel_id", "message", "root_id", "file_ids", "props", "metadata", "pending_post_id"}
PATCH_FIELDS = {"is_pinned", "message", "file_ids", "has_reactions", "props"}
MESSAGE_LIMIT = 16383


@dataclass
class MattermostServer:
    """State of the stand-in; read it in assertions."""

    token: str = "secret"
    channels: set[str] = field(default_factory=lambda: {"live-channel", "replay-channel"})
    user_id: str = "botuser"
    posts: dict[str, dict] = field(default_factory=dict)
    pending: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    webhook_texts: list[str] = field(default_factory=list)
    outages: list[httpx.Response | Exception] = field(default_factory=list)
    requests: list[httpx.Request] = field(default_factory=list)
    lose_answer: bool = False
    reach: Callable[[httpx.Request], httpx.Response] | None = None
    triggers: dict[str, str] = field(default_factory=dict)
    forms: dict[str, dict] = field(default_factory=dict)

    @property
    def transport(self) -> httpx.MockTransport:
        """What the client uses instead of the network."""
        return httpx.MockTransport(self.handle)

    def threads(self) -> list[list[dict]]:
        """Posts by thread, heads first."""
        heads = [post for post in self.posts.values() if not post["root_id"]]
        return [[head, *(p for p in self.posts.values() if p["root_id"] == head["id"])] for head in heads]

    def head_of(self, incident: str) -> dict:
        """Post that heads the thread of an incident."""
        name = f"**Incident:** {incident}."
        (head,) = [thread[0] for thread in self.threads() if name in thread[0]["message"]]
        return head

    def buttons(self, post_id: str) -> dict[str, dict]:
        """Buttons of a post by name."""
        attachments = self.posts[post_id].get("props", {}).get("attachments", ())
        return {action["name"]: action for attachment in attachments for action in attachment["actions"]}

    def press(self, post_id: str, name: str, user_id: str) -> str:
        """Press a button as a person does; returns what only that person is told."""
        integration = self.buttons(post_id)[name]["integration"]
        return self.send_press(post_id, integration["context"], user_id, integration["url"])

    def send_press(
        self, post_id: str, context: dict, user_id: str, url: str, *, channel_id: str | None = None
    ) -> str:
        """Call an integration for a press, apply the update to the post, and return the ephemeral text."""
        post = self.posts[post_id]
        body = {
            "user_id": user_id,
            "user_name": "<script>alert(1)</script>",
            "channel_id": channel_id or post["channel_id"],
            "channel_name": "trigger-shift",
            "team_id": "team",
            "team_domain": "cms",
            "post_id": post_id,
            "trigger_id": self._trigger(user_id),
            "type": "button",
            "data_source": "",
            "context": context,
        }
        answer = self._reach_json(url, body)
        if answer.get("update") is not None:
            self._apply(post, answer["update"])
        return answer.get("ephemeral_text", "")

    def submit(
        self, user_id: str, values: dict, *, channel_id: str = "replay-channel", cancelled: bool = False
    ) -> dict:
        """Send the form that is open for a person; returns what the integration answered."""
        form = self.forms[user_id]
        body = {
            "type": "dialog_submission",
            "callback_id": form["dialog"]["callback_id"],
            "state": form["dialog"]["state"],
            "user_id": user_id,
            "channel_id": channel_id,
            "team_id": "team",
            "submission": values,
            "cancelled": cancelled,
        }
        return self._reach_json(form["url"], body)

    def command(self, url: str, token: str, user_id: str, text: str) -> str:
        """Type a slash command; returns what only that person is told."""
        form = {
            "token": token,
            "team_id": "team",
            "team_domain": "cms",
            "channel_id": "live-channel",
            "channel_name": "trigger-shift",
            "user_id": user_id,
            "user_name": "somebody",
            "command": "/lumiwatch",
            "text": text,
            "trigger_id": self._trigger(user_id),
            "root_id": "",
            "response_url": "http://chat.example/hooks/commands/1",
        }
        headers = {
            "Authorization": f"Token {token}",
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        }
        answer = self._reached(httpx.Request("POST", url, headers=headers, content=urlencode(form)))
        body = answer.json()
        assert answer.status_code == 200, body
        assert body["response_type"] == "ephemeral"
        assert len(body["text"]) <= MESSAGE_LIMIT
        return body["text"]

    def _trigger(self, user_id: str) -> str:
        trigger = f"trigger{len(self.triggers) + 1}"
        self.triggers[trigger] = user_id
        return trigger

    def _reach_json(self, url: str, body: dict) -> dict:
        answer = self._reached(httpx.Request("POST", url, json=body, headers={"Accept": "application/json"}))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def _reached(self, request: httpx.Request) -> httpx.Response:
        assert self.reach is not None, "say how integrations are reached"
        return self.reach(request)

    def _apply(self, post: dict, update: dict) -> None:
        """Change a post as the server does: files that the update does not name come off."""
        assert update["message"]
        assert len(update["message"]) <= MESSAGE_LIMIT
        assert not faults_of_props(update.get("props") or {})
        props = post.get("props", {}) if update.get("props") is None else update["props"]
        kept = [file_id for file_id in update.get("file_ids", ()) if file_id in post.get("file_ids", ())]
        post.update(message=update["message"], props=props, file_ids=kept, edits=post["edits"] + 1)

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        self.requests.append(request)
        if self.outages:
            outage = self.outages.pop(0)
            if isinstance(outage, Exception):
                raise outage
            return outage
        if request.url.path == "/hooks/abc":
            return self._hook(request)
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return _error(401, "api.context.session_expired.app_error", "Invalid or expired session")
        answer = self._route(request)
        if self.lose_answer:
            self.lose_answer = False
            raise httpx.ReadTimeout("answer lost", request=request)
        return answer

    def _route(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if (request.method, path) == ("GET", "/api/v4/users/me"):
            return httpx.Response(200, json={"id": self.user_id, "username": "lumiwatch", "is_bot": True})
        if (request.method, path) == ("POST", "/api/v4/posts"):
            return self._create(json.loads(request.content))
        if (request.method, path) == ("POST", "/api/v4/files"):
            return self._upload(request)
        if (request.method, path) == ("POST", "/api/v4/actions/dialogs/open"):
            return self._open(json.loads(request.content))
        match = re.fullmatch(r"/api/v4/posts/([^/]+)/patch", path)
        if request.method == "PUT" and match:
            return self._patch(match[1], json.loads(request.content))
        return _error(404, "api.context.404.app_error", "Sorry, we could not find the page.")

    def _create(self, body: dict) -> httpx.Response:
        unknown, missing = set(body) - POST_FIELDS, {"channel_id", "message"} - set(body)
        if unknown or missing:
            return _error(
                400, "api.context.invalid_body_param.app_error", f"unknown {unknown}, missing {missing}"
            )
        if body["channel_id"] not in self.channels:
            return _error(
                403, "api.context.permissions.app_error", "You do not have the appropriate permissions."
            )
        if not body["message"] or len(body["message"]) > MESSAGE_LIMIT:
            return _error(
                400, "model.post.is_valid.message_length.app_error", "Post Message is too long or empty"
            )
        faults = faults_of_props(body.get("props", {}))
        if faults:
            return _error(400, "api.context.invalid_body_param.app_error", "; ".join(faults))
        root_id = body.get("root_id", "")
        root = self.posts.get(root_id)
        if root_id and (root is None or root["root_id"] or root["channel_id"] != body["channel_id"]):
            return _error(400, "api.post.create_post.root_id.app_error", "Invalid RootId parameter.")
        if any(file_id not in self.files for file_id in body.get("file_ids", ())):
            return _error(400, "api.post.create_post.attach_files.error", "Invalid file.")
        pending = body.get("pending_post_id", "")
        if pending in self.pending:
            return httpx.Response(201, json=self.posts[self.pending[pending]])
        post_id = f"post{len(self.posts) + 1}"
        self.posts[post_id] = {"id": post_id, "user_id": self.user_id, "edits": 0, **body, "root_id": root_id}
        if pending:
            self.pending[pending] = post_id
        return httpx.Response(201, json=self.posts[post_id])

    def _patch(self, post_id: str, body: dict) -> httpx.Response:
        if post_id not in self.posts:
            return _error(
                403, "api.context.permissions.app_error", "You do not have the appropriate permissions."
            )
        if set(body) - PATCH_FIELDS or not body:
            return _error(
                400, "api.context.invalid_body_param.app_error", f"unknown {set(body) - PATCH_FIELDS}"
            )
        faults = faults_of_props(body.get("props", {}))
        if faults:
            return _error(400, "api.context.invalid_body_param.app_error", "; ".join(faults))
        if len(body.get("message", "")) > MESSAGE_LIMIT:
            return _error(400, "model.post.is_valid.message_length.app_error", "Post Message is too long")
        self.posts[post_id].update(body, edits=self.posts[post_id]["edits"] + 1)
        return httpx.Response(200, json=self.posts[post_id])

    def _open(self, body: dict) -> httpx.Response:
        if set(body) != {"trigger_id", "url", "dialog"}:
            return _error(400, "api.context.invalid_body_param.app_error", f"fields {sorted(body)}")
        user_id = self.triggers.pop(body["trigger_id"], None)
        if user_id is None:
            return _error(400, "interactive_message.decode_trigger_id.expired", "Trigger ID is expired.")
        faults = faults_of_dialog(body["dialog"])
        if faults:
            return _error(400, "api.context.invalid_body_param.app_error", "; ".join(faults))
        self.forms[user_id] = body
        return httpx.Response(200, json={"status": "OK"})

    def _upload(self, request: httpx.Request) -> httpx.Response:
        content = request.read()
        if b'name="channel_id"' not in content or b'name="files"; filename="' not in content:
            return _error(400, "api.file.upload_file.read_request.app_error", "Unable to upload file(s).")
        file_id = f"file{len(self.files) + 1}"
        self.files[file_id] = content[content.index(b"\x89PNG") :]
        return httpx.Response(
            201, json={"file_infos": [{"id": file_id, "extension": "png"}], "client_ids": []}
        )

    def _hook(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        if set(body) - {
            "text",
            "username",
            "icon_url",
            "channel",
            "attachments",
            "props",
            "type",
        } or not body.get("text"):
            return _error(400, "web.incoming_webhook.text.app_error", "No text specified")
        self.webhook_texts.append(body["text"])
        return httpx.Response(200, text="ok")


def _error(status: int, reason_id: str, message: str) -> httpx.Response:
    return httpx.Response(status, json={"id": reason_id, "message": message, "status_code": status})


def rate_limited(seconds: int) -> httpx.Response:
    """Answer of a server that has had enough for now."""
    return httpx.Response(429, headers={"Retry-After": str(seconds)}, text="limit exceeded")


def through(app: Callable) -> Callable[[httpx.Request], httpx.Response]:
    """Reach an ASGI application without a socket."""

    async def send(request: httpx.Request) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            return await client.send(request)

    return lambda request: asyncio.run(send(request))


def over_network(request: httpx.Request) -> httpx.Response:
    """Reach an address over the network."""
    with httpx.Client(trust_env=False) as client:
        return client.send(request)


@contextmanager
def serving(server: MattermostServer) -> Iterator[str]:
    """Put the stand-in behind a real socket on loopback; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = httpx.Request(
                self.command,
                f"http://{self.headers['Host']}{self.path}",
                headers=dict(self.headers),
                content=content,
            )
            answer = server.handle(request)
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_PUT = do  # noqa: N815 - names http.server looks for

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
