"""Serve the unsubscribe page: `python -m deployments.unsubscribe`.

TLS is a proxy's in front of it; uvicorn believes that proxy's X-Forwarded-For where FORWARDED_ALLOW_IPS names it.
"""

import argparse
import sys

import uvicorn

from deployments.unsubscribe.app import unsubscribe_app
from deployments.unsubscribe.opt_outs import OptOuts
from tasks.errors import CampaignError, ConfigurationError
from tasks.settings import Settings

AT_ONCE = 200
"""Requests in work at one time; further ones are answered 503 at once."""


def main() -> None:
    """Read the command line and serve until a signal. Status 1: told in one sentence why not."""
    parser = argparse.ArgumentParser(prog="python -m deployments.unsubscribe", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=4280, help="port to listen at (default: 4280)")
    options = parser.parse_args()
    try:
        settings = Settings.load()
        secret = settings.unsubscribe.secret.get_secret_value()
        if not secret:
            raise ConfigurationError(setting="CAMPAIGN_UNSUBSCRIBE__SECRET", reason="it is empty")
    except CampaignError as error:
        sys.exit(str(error))
    uvicorn.run(
        unsubscribe_app(secret.encode(), OptOuts(settings.journal)),
        host=options.host,
        port=options.port,
        limit_concurrency=AT_ONCE,
        timeout_graceful_shutdown=10,
        access_log=False,  # links name people
        server_header=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
