"""`python -m local.node` runs the agent; `python -m local.node teardown` ends all pods of the home."""

import sys

from local.node.process import main
from local.node.settings import NodeSettings
from local.node.teardown import teardown

if __name__ == "__main__":
    if sys.argv[1:] == ["teardown"]:
        teardown(NodeSettings.from_environment())
    else:
        main()
