"""``python -m xlops.cluster``: what `xlops.cluster.ssh` and jobs ask of their machine."""

import json
import sys

from xlops.cluster import machine

if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--towards", host]:
            print(machine.towards(host))  # noqa: T201
        case arguments:
            print(json.dumps(machine.described(*arguments)))  # noqa: T201
