"""A Ray of our own on this machine, which ends with the process that asked for it, however that ends.

A keeper process starts it and waits. Left to themselves two of Ray's processes outlive a killed driver by a minute, and
its files for ever. Nobody else gets in: it listens on loopback and asks for a token, and its files and sockets, which
Ray opens to all users of the machine, lie in a folder that is closed to them.
"""

import multiprocessing
import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mdebench.files import SHORT, scratch

STORE = 80 * 2**20  # bytes of Ray's object store, the least it takes: a task's answer is a few lines of text


def _private() -> dict[str, str]:
    """What Ray reads in the environment of all its processes, ours included, to be closed to everybody else.

    It listens on the loopback interface alone where it believes that a cluster is one machine; the setting is named
    after the systems where it does so by itself. The token keeps out other users of this machine.
    """
    return {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }


@contextmanager
def own_ray(cores: int, gpus: int) -> Iterator[str]:
    """The address of a Ray with so many cores and GPUs, for a while; enter it before anything imports ray.

    RuntimeError when it does not start.
    """
    os.environ.update(_private())
    ours, keepers = multiprocessing.Pipe()
    fresh = multiprocessing.get_context("spawn")
    keeper = fresh.Process(target=_keep, args=(keepers, cores, gpus))
    keeper.start()
    keepers.close()  # so that its end is noticed
    try:
        try:
            address = ours.recv()
        except EOFError as error:
            raise RuntimeError("it did not start") from error
        yield address
    finally:
        ours.close()
        keeper.join()


def _keep(pipe: Connection, cores: int, gpus: int) -> None:
    """Start Ray, tell its address, end it when the other end of the pipe is closed."""
    os.setsid()  # Ctrl-C in the terminal is for the process that we serve
    signal.signal(signal.SIGINT, signal.default_int_handler)  # for what Ray starts, however this process was started
    with scratch(Path(SHORT)) as folder:
        import ray

        inner = folder / "r"  # Ray permits everything to everybody in the folder that it is given

        settings: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"}
        settings |= {"num_cpus": cores, "num_gpus": gpus, "object_store_memory": STORE, "_temp_dir": str(inner)}
        context = ray.init(address="local", **settings)
        pipe.send(context.address_info["address"])
        with suppress(EOFError):
            pipe.recv()
        ray.shutdown()
