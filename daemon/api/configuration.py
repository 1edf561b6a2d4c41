"""`/api/v1/configuration`: what is in effect, and reading the files again."""

from fastapi import APIRouter, Depends

from daemon.access.roles import Act
from daemon.api.callers import Actor, ServicesOf, reader
from daemon.errors import NotPossibleNow
from daemon.process.services import Services
from daemon.site.reload import Reloader
from daemon.store.views import ConfigurationView

router = APIRouter(prefix="/api/v1/configuration")


@router.get("", dependencies=[Depends(reader)])
def get_configuration(services: ServicesOf) -> ConfigurationView:
    """Give the configuration as loaded: files with their hashes, and all keys without secrets."""
    return _reloader(services).view()


@router.post("/reload")
def reload_configuration(services: ServicesOf, operator: Actor) -> ConfigurationView:
    """Read the files again; `refused` says why nothing has changed."""
    services.access.check(operator.name, Act.RECONFIGURE)
    reloader = _reloader(services)
    reloader.reload(actor=operator.name)
    return reloader.view()


def _reloader(services: Services) -> Reloader:
    if services.reloader is None:
        raise NotPossibleNow("this process does not read its configuration again: ask the daemon")
    return services.reloader
