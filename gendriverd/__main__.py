# SPDX-License-Identifier: MIT
"""`python -m gendriverd` is the gendriverd command."""

import sys

from gendriverd.cli import main

if __name__ == "__main__":
    sys.exit(main())
