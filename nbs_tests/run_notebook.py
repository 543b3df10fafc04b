"""`python -m nbs_tests.run_notebook SOURCE [TARGET]`: run a notebook top to bottom.

The outputs are kept in TARGET, by default in SOURCE itself.
"""

import os
import sys
from pathlib import Path

from execnb.shell import CaptureShell

IPYTHON = Path(__file__).parent / "ipython"


def run(source: Path, target: Path) -> None:
    """Execute the notebook's cells in one shell and write the executed copy. The first failing cell raises."""
    os.environ["IPYTHONDIR"] = str(IPYTHON)
    shell = CaptureShell(source, profile=True)
    try:
        shell.execute(source, target, exc_stop=True)
    except BaseException:  # noqa: BLE001  # whatever a cell raised is shown the way a notebook shows it
        sys.exit(shell.prettytb(fname=source))


if __name__ == "__main__":
    source = Path(sys.argv[1])
    run(source, Path(sys.argv[2]) if len(sys.argv) > 2 else source)
