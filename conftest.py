"""What every test process needs."""

import sys

import pytest

main = sys.modules["__main__"]
if not hasattr(main, "__file__"):
    # A worker of pytest-xdist has no main file; PySpark would take it for its own doctests and exit.
    main.__file__ = pytest.__file__
