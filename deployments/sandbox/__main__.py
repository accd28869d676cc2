"""`python -m deployments.sandbox`: serve the sandbox partner until it is stopped."""

import argparse
import contextlib
from pathlib import Path

from deployments.sandbox.partner import PORT, Behaviour, serve_until_stopped


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m deployments.sandbox", description=__doc__)
    parser.add_argument("--behaviour", type=Behaviour, choices=list(Behaviour), default=Behaviour.NORMAL)
    parser.add_argument("--port", type=int, default=PORT, help="port on loopback; 0 takes a free one")
    parser.add_argument("--folder", type=Path, default=Path("samples"), help="where its ca.pem is written")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        serve_until_stopped(options.folder, options.behaviour, options.port)


if __name__ == "__main__":
    main()
