"""Who calls: what routes depend on. Refuses to know what a caller may do.

Browsers' sessions may read but not act: acts need a token, which no other web page can send.
"""

from ipaddress import ip_address
from typing import Annotated

from fastapi import Depends, Header, Request

from daemon.access.people import Person
from daemon.access.sessions import SESSION_COOKIE
from daemon.errors import NotAuthenticated
from daemon.process.services import Services


def services_of(request: Request) -> Services:
    """Find the services of the daemon that serves this request."""
    services: Services = request.app.state.services
    return services


def address_of(request: Request) -> str:
    """Tell where a request comes from; behind a proxy on this machine, what that says."""
    try:
        return str(ip_address(request.client.host if request.client is not None else ""))
    except ValueError:
        return "unknown"


def reader(
    request: Request, authorization: Annotated[str | None, Header(include_in_schema=False)] = None
) -> Person:
    """Tell who reads: the person of the bearer token, or of the console session.

    Raises
    ------
    NotAuthenticated
        Nobody known.
    """
    if authorization is not None:
        return actor(request, authorization)
    cookie = request.cookies.get(SESSION_COOKIE)
    if cookie is None:
        raise NotAuthenticated("no token: send `Authorization: Bearer <operator token>`, or log in first")
    return services_of(request).access.person_of_session(cookie, seen=True)


def actor(
    request: Request, authorization: Annotated[str | None, Header(include_in_schema=False)] = None
) -> Person:
    """Tell who acts: the person of the bearer token, nothing else.

    Raises
    ------
    NotAuthenticated
        Nobody known.
    """
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NotAuthenticated("no token: send `Authorization: Bearer <operator token>`")
    return services_of(request).access.person_of_token(token.strip())


ServicesOf = Annotated[Services, Depends(services_of)]
Actor = Annotated[Person, Depends(actor)]
Reader = Annotated[Person, Depends(reader)]
