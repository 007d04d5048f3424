"""Puts the checkout's two source roots on the path.

The jobs then run where the project is not installed, such as in the copy of the checkout that
`ray job submit --working-dir .` makes on a cluster.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
for _root in (ROOT / "platform", ROOT):
    if str(_root) not in sys.path:
        sys.path.insert(0, str(_root))
