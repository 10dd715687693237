"""A model whose module takes as long to import as the test lets it: says that it loads, and goes on when stopped."""

import os
import time
from pathlib import Path

Path(os.environ["ONESESSION_TEST_GATE"], "loading").touch()
time.sleep(600)
