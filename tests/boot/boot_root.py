# SPDX-License-Identifier: MIT
"""A root of its own for a systemd that boots: Debian by debootstrap, kept; the project and its units, put in anew.

All of it lies in one directory (build/boot). It is booted by systemd-nspawn in a mount namespace of its own, over an
overlay in memory: what the booted system writes is gone when it is, but for the directory of results.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PLACE = ROOT / "build/boot"
# What nspawn itself would forbid, and the unit allows.
ALLOWED = "landlock_create_ruleset landlock_add_rule landlock_restrict_self"
SECONDS = 600  # for debootstrap
SECONDS_TO_LEAVE = 30.0
# What it mounts nobody else sees, and its end is the end of all that it has started.
ALONE = ("unshare", "--mount", "--propagation", "private", "--pid", "--mount-proc", "--fork", "--kill-child")
CGROUPS = Path("/sys/fs/cgroup")
# Into control groups of its own, and where nspawn keeps its books nobody else looks.
PRIVATE = """
for group in $BOOT_GROUPS; do echo 0 >"$group/cgroup.procs" || exit; done
mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /tmp && exec "$@"
"""
SITE = "usr/local/lib/python{}/dist-packages"
COMMAND = "#!/usr/bin/python3\nimport sys\n\nfrom gendriverd.cli import main\n\nsys.exit(main())\n"
CHECKS = """[Unit]
Description=checks of gendriverd
After=multi-user.target

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 /opt/checks/boot_checks.py /results
ExecStopPost=/usr/bin/systemctl --no-block poweroff
"""


class NoBoot(Exception):
    """Why there is none here."""


def make_root() -> Path:
    """The root, with the project as it is now. Raises NoBoot."""
    if os.geteuid() != 0:
        raise NoBoot("only root can make a root for systemd, and boot it")
    root = PLACE / "root"
    if not (PLACE / "complete").exists():
        shutil.rmtree(PLACE, ignore_errors=True)
        PLACE.mkdir(parents=True)
        _bootstrap(root)
        _fetch_nspawn()
        (PLACE / "complete").touch()
    _install_project(root)
    _install_service(root)
    return root


def _run(*command: str | Path, why: str, seconds: float = SECONDS, cwd: Path = ROOT) -> str:
    """Its output. Raises NoBoot."""
    try:
        done = subprocess.run(
            [str(each) for each in command], cwd=cwd, capture_output=True, text=True, timeout=seconds, check=False
        )
    except FileNotFoundError:
        raise NoBoot(f"{why}: {command[0]} is not on this machine") from None
    except subprocess.TimeoutExpired:
        raise NoBoot(f"{why}: not within {seconds:g} s") from None
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise NoBoot(f"{why}: {' '.join(last)}")
    return done.stdout


def _bootstrap(root: Path) -> None:
    site, codename = _mirror()
    packages = "--include=systemd-sysv,python3"
    command = ("debootstrap", "--variant=minbase", packages, codename, root, site)
    _run(*ALONE, *command, why=f"no root by debootstrap of {codename}")


def _mirror() -> tuple[str, str]:
    """Where apt has Debian itself from, and its release."""
    form = "$(SITE) $(CODENAME) $(ORIGIN) $(COMPONENT)"
    targets = _run("apt-get", "indextargets", "--format", form, "Created-By: Packages", why="no Debian mirror")
    for line in targets.splitlines():
        site, codename, *rest = line.split()
        if rest == ["Debian", "main"] and "-" not in codename:
            return site, codename
    raise NoBoot("apt knows no mirror of Debian here")


def _fetch_nspawn() -> None:
    """The program alone: the package is not installed, as it would bring other versions of systemd along."""
    why = "no systemd-nspawn"
    _run("apt-get", "download", "-o", "APT::Sandbox::User=root", "systemd-container", why=why, cwd=PLACE)
    package = next(PLACE.glob("systemd-container_*.deb"))
    _run("dpkg", "-x", package, PLACE / "nspawn", why=why)


def _install_project(root: Path) -> None:
    """The wheel and what it needs, for the root's own Python."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if not (root / "usr/bin" / f"python{version}").exists():
        raise NoBoot(
            f"these are compiled for Python {version}, and the root has another: make boot PYTHON=/usr/bin/python3"
        )
    wheels, packages = PLACE / "wheels", root / SITE.format(version)
    shutil.rmtree(wheels, ignore_errors=True)
    shutil.rmtree(packages, ignore_errors=True)
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    _run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", wheels, ".", why="no wheel")
    wheel = next(wheels.glob("gendriverd-*.whl"))
    _run(*pip, "install", "-c", "constraints.txt", "--target", packages, wheel, why="the wheel cannot be installed")
    _write(root / "usr/local/bin/gendriverd", COMMAND, 0o755)


def _install_service(root: Path) -> None:
    """As docs/operating.md says; beside it the checks, what they need, and a service that runs them."""
    etc, units = root / "etc/gendriverd", root / "etc/systemd/system"
    for old in (etc, root / "opt"):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(ROOT / "config", etc)
    deploy = ROOT / "deploy/systemd"
    shutil.copy(deploy / "gendriverd.service", units)
    shutil.copy(deploy / "gendriverd.socket", units)
    shutil.copy(deploy / "gendriverd.sysusers", root / "usr/lib/sysusers.d/gendriverd.conf")
    shutil.copytree(deploy / "drop-ins", root / "opt/drop-ins")
    shutil.copytree(ROOT / "build/drivers/test", root / "opt/drivers")
    (root / "opt/checks").mkdir()
    for name in ("boot_checks.py", "boot_confinement.py", "boot_service.py", "boot_asks.py"):
        shutil.copy(Path(__file__).with_name(name), root / "opt/checks")
    _write(units / "boot-checks.service", CHECKS)
    wanted = units / "multi-user.target.wants/boot-checks.service"
    wanted.parent.mkdir(exist_ok=True)
    wanted.unlink(missing_ok=True)
    wanted.symlink_to("../boot-checks.service")


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.write_text(text)
    path.chmod(mode)


def boot(root: Path, results: Path, seconds: float) -> str:
    """Boot it, until it has powered itself off; what its console said."""
    libraries = next((root / "usr/lib").glob("*/systemd/libsystemd-shared-*.so")).parent
    nspawn = [
        str(PLACE / "nspawn/usr/bin/systemd-nspawn"),
        *("--directory", str(root), "--volatile=overlay", "--bind", f"{results}:/results"),
        *("--boot", "--register=no", "--keep-unit", "--private-network", "--console=pipe"),
        *("--machine=gendriverd-boot", "--link-journal=no"),
        f"--system-call-filter={ALLOWED}",
    ]
    command = [*ALONE, "sh", "-c", PRIVATE, "sh", *nspawn]
    with _control_groups() as groups:
        environ = {**os.environ, "LD_LIBRARY_PATH": str(libraries), "BOOT_GROUPS": " ".join(map(str, groups))}
        return _until_off(command, environ, seconds)


def _until_off(command: Sequence[str], environ: Mapping[str, str], seconds: float) -> str:
    running = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environ,
    )
    try:
        return running.communicate(timeout=seconds)[0]
    except BaseException:
        running.send_signal(signal.SIGKILL)  # and with it all that is in its namespace
        running.communicate()
        raise


@contextlib.contextmanager
def _control_groups() -> Iterator[list[Path]]:
    """One in each hierarchy that systemd uses, of version 1 or 2; gone afterwards, with what nspawn has made in it."""
    tops = [top for top in (CGROUPS / "systemd", CGROUPS / "unified", CGROUPS) if (top / "cgroup.procs").exists()]
    groups = [top / f"gendriverd-boot-{os.getpid()}" for top in tops]
    for group in groups:
        group.mkdir()
    try:
        yield groups
    finally:
        for group in groups:
            for inner, _, _ in os.walk(group, topdown=False):
                _remove(Path(inner))


def _remove(group: Path) -> None:
    """The kernel may not be done yet with those that were in it, and in version 1 tells nobody when it is."""
    end = time.monotonic() + SECONDS_TO_LEAVE
    while True:
        try:
            return group.rmdir()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
