# SPDX-License-Identifier: MIT
"""What is checked inside the booted system, in this order: a line of `ok`, `failed` or `skipped` for each.

Runs as root, on the system's own Python, from a service (boot_root.py), with the shipped configuration and drivers of
the tests beside it. The checks are one sequence: what one leaves is where the next begins.
"""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from boot_asks import Skip
from boot_confinement import (
    a_driver_may_compile_with_the_drop_in_for_it,
    a_driver_may_use_a_device_with_the_drop_in_for_it,
    a_driver_sees_neither_homes_nor_devices,
    a_driver_writes_to_its_state_and_nowhere_else,
    a_host_may_confine_itself_further,
    a_key_may_be_a_credential,
    memory_is_not_both_writable_and_executable,
    only_internet_and_unix_sockets_are_made,
    room_for_ten_thousand_connections_and_no_core_of_the_daemon,
    the_daemon_and_its_hosts_are_without_privileges,
    the_service_starts_with_what_limits_need,
    what_all_hosts_may_have_together_is_bounded,
    with_its_socket_the_service_needs_no_network,
)
from boot_service import (
    a_client_starts_the_service_by_its_socket,
    a_client_that_comes_while_the_daemon_restarts_waits,
    a_daemon_that_goes_round_is_left_alone,
    a_daemon_that_is_killed_comes_back,
    a_daemon_that_stands_still_is_killed_by_the_watchdog_and_comes_back,
    a_host_crashes_and_the_service_goes_on,
    a_reload_of_a_broken_configuration_fails_and_the_old_one_serves,
    a_reload_takes_a_changed_driver,
    a_reload_that_the_daemon_was_told_by_a_signal_is_seen,
    a_stop_answers_what_runs,
    a_wrong_configuration_is_not_tried_again,
    active_only_when_it_is_ready,
    calls_over_tcp_and_a_unix_socket,
    the_journal_has_events_identifier_and_priorities,
    the_status_line_is_systemds,
)

CHECKS: list[Callable[[], None]] = [
    active_only_when_it_is_ready,
    the_status_line_is_systemds,
    calls_over_tcp_and_a_unix_socket,
    the_daemon_and_its_hosts_are_without_privileges,
    a_driver_writes_to_its_state_and_nowhere_else,
    a_driver_sees_neither_homes_nor_devices,
    memory_is_not_both_writable_and_executable,
    only_internet_and_unix_sockets_are_made,
    a_host_may_confine_itself_further,
    room_for_ten_thousand_connections_and_no_core_of_the_daemon,
    what_all_hosts_may_have_together_is_bounded,
    a_reload_takes_a_changed_driver,
    a_reload_of_a_broken_configuration_fails_and_the_old_one_serves,
    a_reload_that_the_daemon_was_told_by_a_signal_is_seen,
    a_host_crashes_and_the_service_goes_on,
    the_journal_has_events_identifier_and_priorities,
    a_daemon_that_stands_still_is_killed_by_the_watchdog_and_comes_back,
    a_daemon_that_goes_round_is_left_alone,
    a_daemon_that_is_killed_comes_back,
    a_wrong_configuration_is_not_tried_again,
    a_stop_answers_what_runs,
    a_client_starts_the_service_by_its_socket,
    a_client_that_comes_while_the_daemon_restarts_waits,
    with_its_socket_the_service_needs_no_network,
    a_driver_may_compile_with_the_drop_in_for_it,
    a_driver_may_use_a_device_with_the_drop_in_for_it,
    the_service_starts_with_what_limits_need,
    a_key_may_be_a_credential,
]


def verdict(check: Callable[[], None]) -> str:
    try:
        check()
    except Skip as why:
        return f"skipped {check.__name__} {why}"
    except Exception:  # noqa: BLE001 (the others are checked too)
        return f"failed {check.__name__} " + traceback.format_exc().replace("\n", "\\n")
    return f"ok {check.__name__} "


def main(results: Path) -> None:
    with (results / "said").open("w") as said:
        for check in CHECKS:
            print(verdict(check), file=said, flush=True)
    with (results / "journal").open("w") as journal:
        subprocess.run(["journalctl", "--no-pager"], stdout=journal, check=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
