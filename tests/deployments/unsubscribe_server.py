"""The unsubscribe page on a real socket, for tests."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from deployments.unsubscribe.app import unsubscribe_app
from deployments.unsubscribe.limits import PageLimits
from deployments.unsubscribe.opt_outs import OptOuts
from tasks.settings import JournalSettings
from tests.ports import free_port


@contextmanager
def running_page(secret: str, journal: JournalSettings, limits: PageLimits | None = None) -> Iterator[str]:
    """Serve on loopback until the block ends; gives the server's address."""
    app = unsubscribe_app(secret.encode(), OptOuts(journal), limits)
    server = uvicorn.Server(uvicorn.Config(app, port=free_port(), log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.config.port}"
    finally:
        server.should_exit = True
        thread.join(20)
