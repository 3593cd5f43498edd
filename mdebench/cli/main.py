"""The command line: a thin layer that turns words into calls. Nothing slow is imported on the way to ``--help``.

A user's mistake ends in one sentence on standard error and exit status 1 (2 for a wrong use of the command line), a
stop by Ctrl-C in status 130; only a defect of ours shows a traceback.
"""

import errno
import sys

import click

from mdebench.cli.bench import bench
from mdebench.cli.data import data
from mdebench.cli.encoders import complete, embed, export
from mdebench.cli.measure import check, measure, occlusion, protocols, transfer
from mdebench.cli.options import Commands
from mdebench.cli.runs import compare, prune, runs, show
from mdebench.cli.suite import costs, demo, list_, reproduce
from mdebench.cli.train import judge, pretrain
from mdebench.cli.views import audit, figures, report, tables
from mdebench.errors import Interrupted, UserError
from mdebench.version import __version__

# What a disk may refuse, and what to do about it.
_DISK_REFUSES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "choose another --home or make room"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "permit it, or choose another --home"),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG), "choose another path"),
}


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """What does learning to complete images teach an encoder?

    Pretrain by image completion, transfer to attributes and landmarks, complete faces under occlusion, write tables
    beside the published ones. Start with `mdebench demo`.
    """


for command in (
    *(pretrain, judge, transfer, occlusion, measure, protocols, check, tables, figures, report, audit),
    *(reproduce, costs, demo, list_, runs, show, compare, prune, export, embed, complete, data, bench),
):
    cli.add_command(command)


def main() -> None:
    """Code point: run the command line; a UserError, a stop, or a disk that refuses ends in one sentence."""
    try:
        sys.exit(cli.main(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (Interrupted, KeyboardInterrupt, click.Abort) as stop:
        click.echo(f"stopped ({str(stop) or 'Ctrl-C'}); the same command goes on from there", err=True)
        sys.exit(130)
    except UserError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        if error.errno not in _DISK_REFUSES:
            raise
        said = "a file is where a folder is wanted" if error.errno == errno.EEXIST else error.strerror
        click.echo(f"Error: {error.filename}: {said}; {_DISK_REFUSES[error.errno]}", err=True)
        sys.exit(1)
    except (MemoryError, RuntimeError) as error:
        from mdebench.compute.memory import wants_memory  # torch is loaded where anything takes much

        if not wants_memory(error):
            raise
        way_on = "close what else takes memory, or give less at a time (--jobs 1, --set batch=N, a smaller --scale)"
        click.echo(f"Error: there is not enough memory for this; {way_on}", err=True)
        sys.exit(1)
