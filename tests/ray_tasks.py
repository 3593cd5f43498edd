"""Made-up tasks that Ray's workers find by this module's name, and a command that hands them over.

``python ray_tasks.py WHERE HOME PLAN`` does what is missing of a plan, twice, and prints both outcomes.
"""

import json
import os
import signal
import sys
import time
from functools import partial

from rich.console import Console

from mdebench.errors import Interrupted, UserError
from mdebench.home import Home
from mdebench.suite.places import workers
from mdebench.suite.tasks import Task


def leave_mark(name, home, console):
    (home.folder / name).write_text(str(os.getpid()))
    console.print(f"made {name}")


def refuse_until_healed(home, console):
    if not (home.folder / "healed").exists():
        raise UserError("the loss is not finite")
    leave_mark("ill", home, console)


def die_once(home, console):
    if not (home.folder / "died").exists():
        (home.folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    leave_mark("weak", home, console)


def be_asked_to_end_once(home, console):
    if not (home.folder / "told").exists():
        (home.folder / "told").touch()
        raise Interrupted("SIGTERM at update 3 of 9")
    leave_mark("asked", home, console)


def last(home, console):
    """Goes on until it is stopped, and saves when it is asked to stop."""
    (home.folder / "begun").touch()
    try:
        for _ in range(6000):  # Ray's way to interrupt does not end a single long sleep
            time.sleep(0.1)
    except KeyboardInterrupt:
        (home.folder / "saved").touch()
        raise


def task(name, needs=(), do=None, run=""):
    return Task("rows", name, "missing", "", 1.0, do or partial(leave_mark, name), tuple(needs), run)


PLANS = {
    "short": [
        task("a"),
        task("ill", do=refuse_until_healed),
        task("needs_ill", ["rows ill"]),
        task("weak", do=die_once),
        task("needs_weak", ["rows weak"]),
        task("asked", do=be_asked_to_end_once),
        task("b", run="r"),
        task("c", run="r"),
    ],
    "long": [task("lasting", do=last)],
}

if __name__ == "__main__":
    where, home, plan = sys.argv[1], Home(sys.argv[2]), sys.argv[3]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # to which what a shell starts in the background is deaf
    outcomes = []
    try:
        with workers(where, None) as those:
            for _ in range(2):
                missing = [task for task in PLANS[plan] if not (home.folder / task.name).exists()]
                outcomes.append(those.carry_out(missing, home, Console(width=200)))
                (home.folder / "healed").touch()
    except KeyboardInterrupt:
        sys.exit(130)
    sys.stdout.write(json.dumps(outcomes))
