"""The sandbox stands in for partners and profiles that are not set."""

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from errno import EADDRINUSE
from pathlib import Path
from tempfile import TemporaryDirectory

from deployments.sandbox.partner import PORT, Behaviour, Partner, running_partner
from deployments.sandbox.profiles import write_sample_profiles
from deployments.sandbox.server import HOST
from flows.settings import CampaignSettings
from tasks.sources.files import ProfileFile

SAMPLES = ProfileFile().path.parent


@contextmanager
def substitute(
    settings: CampaignSettings, services: Iterable[str], behaviour: Behaviour = Behaviour.NORMAL
) -> Iterator[dict[str, str]]:
    """Made-up profiles, and the sandbox partner for those services that have no address, until the block ends.

    Gives the environment variables with which a campaign calls the partner: none where everything is set.
    """
    if settings.profiles == ProfileFile() and not settings.profiles.path.exists():
        write_sample_profiles(settings.profiles.path)
    unset = [name for name in services if not getattr(settings, name).url]
    if not unset:
        yield {}
        return
    with _partner(behaviour) as partner:
        allowed = sorted({*settings.network.allowed_hosts, HOST})
        yield {**partner.settings_of(*unset), "CAMPAIGN_NETWORK__ALLOWED_HOSTS": json.dumps(allowed)}


@contextmanager
def _partner(behaviour: Behaviour) -> Iterator[Partner]:
    """The partner in its usual folder, on its usual port; where another process has that port, in others."""
    with ExitStack() as stack:
        try:
            partner = stack.enter_context(running_partner(SAMPLES, behaviour, PORT))
        except OSError as error:
            if error.errno != EADDRINUSE:
                raise
            folder = stack.enter_context(TemporaryDirectory(prefix="sandbox-"))
            partner = stack.enter_context(running_partner(Path(folder), behaviour))
        yield partner
