# SPDX-License-Identifier: MIT
"""gendriverd hosts C drivers for Erlang and Elixir outside the VM."""

__version__ = "0.1.0"

PROTOCOL = 1  # docs/protocol.md
DRIVER_ABI = 1  # GD_ABI_VERSION in gen_driver.h
