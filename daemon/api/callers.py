"""Who calls: what routes depend on. Refuses to know what a caller may do.

Browsers' sessions may read but not act: acts need the token, which no other web page can send.
"""

from typing import Annotated

from fastapi import Depends, Header, Request

from daemon.auth import SESSION_COOKIE, Operator
from daemon.errors import NotAuthenticated
from daemon.services import Services


def services_of(request: Request) -> Services:
    """Find the services of the daemon that serves this request."""
    services: Services = request.app.state.services
    return services


def reader(
    request: Request, authorization: Annotated[str | None, Header(include_in_schema=False)] = None
) -> Operator:
    """Tell who reads: the operator of the bearer token, or of the console session.

    Raises
    ------
    NotAuthenticated
        Nobody known.
    """
    services = services_of(request)
    if authorization is not None:
        return actor(request, authorization)
    cookie = request.cookies.get(SESSION_COOKIE)
    if cookie is None:
        raise NotAuthenticated("no token: send `Authorization: Bearer <operator token>`, or log in first")
    return services.authenticator.operator_of_session(cookie, now=services.clock())


def actor(
    request: Request, authorization: Annotated[str | None, Header(include_in_schema=False)] = None
) -> Operator:
    """Tell who acts: the operator of the bearer token, nothing else.

    Raises
    ------
    NotAuthenticated
        Nobody known.
    """
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NotAuthenticated("no token: send `Authorization: Bearer <operator token>`")
    return services_of(request).authenticator.operator_of_token(token.strip())


ServicesOf = Annotated[Services, Depends(services_of)]
Actor = Annotated[Operator, Depends(actor)]
Reader = Annotated[Operator, Depends(reader)]
