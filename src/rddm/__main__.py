"""``python -m rddm``."""

import sys

from rddm.cli import main

sys.exit(main())
