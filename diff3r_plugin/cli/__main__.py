"""``python -m diff3r_plugin.cli`` is ``diff3r``."""

import sys

from diff3r_plugin.cli.main import main

sys.exit(main())
