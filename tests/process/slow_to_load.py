"""A model whose module takes as long to import as the test decides: it reports that it loads, and continues when
stopped."""

import os
import time
from pathlib import Path

Path(os.environ["ONESESSION_TEST_GATE"], "loading").touch()
time.sleep(600)
