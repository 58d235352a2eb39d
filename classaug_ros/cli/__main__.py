"""``python -m classaug_ros.cli``."""

import sys

from classaug_ros.cli import main

if __name__ == "__main__":
    sys.exit(main())
