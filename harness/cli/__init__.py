"""The command line: the composition root. Commands import what they need when they run, so that --help is fast."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the console script `robustboard`.

    Exit codes: 0 fine, 1 the work failed, 2 the request was wrong, 130 stopped by the user.
    """
    from harness.cli.app import app
    from harness.cli.output import fail
    from harness.errors import RobustboardError

    try:
        app()
    except RobustboardError as error:
        fail(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        fail("stopped")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
