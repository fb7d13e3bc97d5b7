#!/usr/bin/env python3
"""Create or update the virtual environment of the checkout: python3 tools/venv.py .venv

It holds what `[dependency-groups] dev` of pyproject.toml names, at the versions named there.
This file alone must run on an old Python too, to say what is needed instead of a syntax error.
"""

import os
import subprocess
import sys

OLDEST = (3, 10)
# The first pip that reads dependency groups is 25.1.
PIP = "pip==26.3"


def main(folder):
    if sys.version_info < OLDEST:
        sys.exit(
            "zmsg needs Python %d.%d or newer; %s is %d.%d. Install one and name it: make PYTHON=python3.12 ..."
            % (*OLDEST, sys.executable, *sys.version_info[:2])
        )
    python = os.path.join(folder, "bin", "python")
    if not works(python):
        need_ensurepip()
        run([sys.executable, "-m", "venv", "--clear", folder])
    run([python, "-m", "pip", "install", "--quiet", PIP])
    run([python, "-m", "pip", "install", "--quiet", "--group", "dev"])


def works(python):
    """A virtual environment dies with the interpreter that made it, and its pip with an interrupted install."""
    if not os.path.exists(python):
        return False
    check = "import sys, pip; sys.exit(sys.version_info < (%d, %d))" % OLDEST
    return subprocess.call([python, "-c", check], stderr=subprocess.DEVNULL) == 0


def need_ensurepip():
    """Debian keeps the part of `venv` that brings pip in a package of its own."""
    if subprocess.call([sys.executable, "-c", "import ensurepip"], stderr=subprocess.DEVNULL) == 0:
        return
    import debian

    package = "python%d.%d-venv" % sys.version_info[:2]
    if not debian.may_install():
        sys.exit("this Python cannot make virtual environments; install its package:\n    " + debian.by_hand([package]))
    print("this Python cannot make virtual environments yet: installing " + package, file=sys.stderr)
    if not debian.install([package]):
        sys.exit("apt-get could not install %s; what it said is above" % package)


def run(command):
    code = subprocess.call(command)
    if code != 0:
        sys.exit("failed: " + " ".join(command))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
