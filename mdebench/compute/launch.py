"""Start the processes of a run on several devices of this machine, and say in one sentence how they ended.

As many processes as devices, started by torchrun's own launcher: a GPU each, or on a machine without GPU a share of
the threads each. They meet at a file and talk over loopback: nothing here can be reached from another machine. For
several machines start torchrun itself (README, "Several devices").
"""

import logging
import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from mdebench.compute import devices
from mdebench.errors import Interrupted, UserError
from mdebench.files import scratch

EXPECTED = (UserError, Interrupted, OSError)  # the command line has words for them


def launch(processes: int, work: Callable[..., None], *args: Any) -> None:
    """Do ``work(*args)``, which other processes must be able to import and unpickle, in several processes at once.

    UserError, Interrupted or OSError when that is how it ended in them; UserError when a process was killed, or when
    this machine has fewer GPUs. When one ends, all end.
    """
    devices.check_gpus(processes)
    threads = max(1, torch.get_num_threads() // processes)
    with scratch() as folder, _own_signals_and_words():
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id="mdebench",
            rdzv_backend="c10d",
            rdzv_endpoint=str(folder / "rendezvous"),
            rdzv_configs={"store_type": "file"},
            local_addr="127.0.0.1",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(str(folder / "logs")),
        )
        os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # or the launcher opens a port for a store of its own
        try:
            elastic_launch(config, _process)(folder, processes, threads, work, args)
        except ChildFailedError:
            raise _said(folder) or UserError(f"{devices.LOST}; the same command goes on from there") from None
        except SignalException:
            raise _said(folder) or Interrupted("a signal") from None


def _said(folder: Path) -> Exception | None:
    """How the work ended by the word of its processes; None where none could leave word."""
    file = folder / "said"
    end: Exception | None = pickle.loads(file.read_bytes()) if file.is_file() else None
    return end


def _process(folder: Path, processes: int, threads: int, work: Callable[..., None], args: tuple[Any, ...]) -> None:
    """What each process does: meet the others, work, and leave word why it stops, the first one to stop first."""
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        with devices.joined(folder / "meeting"):
            if devices.count() != processes:
                raise UserError(f"{processes} processes were asked for, but {devices.count()} met")
            work(*args)
    except KeyboardInterrupt:  # while it still imports: the loop has its own way with signals
        _say(folder, Interrupted("Ctrl-C"))
    except EXPECTED as end:
        _say(folder, end)
    except Exception:  # our own mistake, whatever its kind: the parent shows the traceback
        _say(folder, RuntimeError("\n" + traceback.format_exc()))


def _say(folder: Path, end: Exception) -> NoReturn:
    with suppress(FileExistsError), (folder / "said").open("xb") as file:
        file.write(pickle.dumps(end))
    raise SystemExit(1)


@contextmanager
def _own_signals_and_words() -> Iterator[None]:
    """The launcher handles signals its own way and logs at length: afterwards, and to the user, all is as before."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    handlers, disabled = {number: signal.getsignal(number) for number in numbers}, logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)
        for number, handler in handlers.items():
            signal.signal(number, handler)
