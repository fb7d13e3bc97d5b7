#!/usr/bin/env python3
"""Start, stop and name the servers that the demo, the tests and the benches talk to.

    python3 tools/servers.py up            start what is not running yet
    python3 tools/servers.py down          stop it; the data stay for the next `up`
    python3 tools/servers.py status        say where everything is; exit 1 if something is not running
    python3 tools/servers.py env           `up`, then print the variables for `eval "$(...)"`
    python3 tools/servers.py exec -- CMD   `up`, then run CMD with these variables set
    python3 tools/servers.py purge         `down`, then delete the data as well
    python3 tools/servers.py programs      name the programs and the user for servers that a test starts itself

A server that is named in the environment is used as it is; see devservers/__init__.py for the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from devservers.fleet import Fleet
from devservers.home import open_home
from devservers.report import Failure

CHECKOUT = Path(__file__).resolve().parent.parent


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="servers.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--state",
        type=Path,
        default=CHECKOUT / ".servers",
        metavar="DIR",
        help="where private servers keep data, ports and logs (default: .servers in the checkout)",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in ("up", "down", "status", "env", "purge", "programs"):
        commands.add_parser(name)
    run = commands.add_parser("exec")
    run.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- CMD")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    arguments = parse(argv)
    fleet = Fleet(open_home(arguments.state.absolute()), CHECKOUT / "docker-compose.yml")
    if arguments.command == "up":
        fleet.up()
    elif arguments.command == "down":
        fleet.down()
    elif arguments.command == "purge":
        fleet.purge()
    elif arguments.command == "programs":
        print(json.dumps(fleet.programs()))
    elif arguments.command == "status":
        return 0 if fleet.status() else 1
    elif arguments.command == "env":
        for name, value in fleet.up().items():
            print(f"export {name}={shlex.quote(value)}")
    else:
        return execute(fleet, arguments.argv)
    return 0


def execute(fleet: Fleet, argv: list[str]) -> int:
    command = argv[1:] if argv[:1] == ["--"] else argv
    if not command:
        raise Failure("exec needs a command: servers.py exec -- CMD ...")
    environment = {**os.environ, **fleet.up()}
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        raise Failure(f"cannot run {command[0]}: {error.strerror}") from None


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Failure as failure:
        print(f"servers: error: {failure}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
