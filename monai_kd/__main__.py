"""``python -m monai_kd VERB ...``"""

import sys

from monai_kd.cli import main

if __name__ == "__main__":
    sys.exit(main())
