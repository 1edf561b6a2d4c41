"""Browsers log in and out."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from daemon.api.callers import services_of
from daemon.auth import SESSION_COOKIE

router = APIRouter()
_LOGGED_IN = (
    '<!doctype html><html lang="en"><head><meta http-equiv="refresh" content="0; url=/">'
    '<title>lumiwatch</title></head><body><p>Logged in. <a href="/">Go to the console</a>.</p></body></html>'
)


@router.get("/login", include_in_schema=False)
def login(token: str, request: Request) -> Response:
    """Turn a token into a session cookie and go to the console."""
    services = services_of(request)
    operator = services.authenticator.operator_of_token(token)
    # not a redirect: a browser that follows one from another site would leave the strict cookie out
    answer = HTMLResponse(_LOGGED_IN)
    answer.set_cookie(
        SESSION_COOKIE,
        services.authenticator.new_session(operator, now=services.clock()),
        max_age=int(services.authenticator.session_life.total_seconds()),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return answer


@router.post("/logout", include_in_schema=False)
def logout() -> Response:
    """Forget the session in this browser."""
    answer = RedirectResponse("/", status_code=303)
    answer.delete_cookie(SESSION_COOKIE)
    return answer
