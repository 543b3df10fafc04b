"""The app's process: `python -m app.main`."""

import logging
import sys

from lib.context import AppContext, serve
from lib.core import SotaError
from lib.settings import load_settings


def main() -> None:
    """Serve the agents of the configured workspace until SIGTERM."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    try:
        serve(AppContext(load_settings()))
    except SotaError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
