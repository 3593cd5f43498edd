"""The command line: a thin layer that turns words into calls. Nothing slow is imported on the way to ``--help``.

A user's mistake ends in one sentence on standard error and exit status 1 (2 for a wrong use of the command line), a
stop by Ctrl-C in status 130; only a defect of ours shows a traceback.
"""

import errno
import io
import re
import sys

import click

from mdebench import files
from mdebench.cli.bench import bench
from mdebench.cli.data import data
from mdebench.cli.encoders import complete, embed, export
from mdebench.cli.measure import check, measure, occlusion, protocols, transfer
from mdebench.cli.options import Commands
from mdebench.cli.runs import compare, doctor, prune, runs, show
from mdebench.cli.suite import costs, demo, list_, reproduce
from mdebench.cli.train import judge, pretrain
from mdebench.cli.views import agree, audit, figures, report, tables
from mdebench.errors import Interrupted, UserError
from mdebench.version import __version__
from mdebench.words import shown

# What the system may refuse, and what to do about it.
_REFUSED = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "choose another --home or make room"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "permit it, or choose another --home"),
    **dict.fromkeys(
        (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP), "choose another path"
    ),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "permit more (ulimit -n 1024), or end something"),
    errno.EAGAIN: "end something, or take less at a time (--jobs 1)",
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.ENODEV), "see to the disk, then give the command again"),
}
_DESCRIPTORS = re.compile("too many open files", re.I)
_LESS = "end something, or give less at a time (--jobs 1, --set batch=N, a smaller --scale)"


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """What does learning to complete images teach an encoder?

    Pretrain by image completion, transfer to attributes and landmarks, complete faces under occlusion, write tables
    beside the published ones. Start with `mdebench demo`.
    """


for command in (
    *(pretrain, judge, transfer, occlusion, measure, protocols, check, tables, agree, figures, report, audit),
    *(reproduce, costs, demo, list_, runs, show, compare, prune, doctor, export, embed, complete, data, bench),
):
    cli.add_command(command)


def main() -> None:
    """Code point: run the command line; a UserError, a stop, or a system that refuses ends in one sentence."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # ? for what a terminal has no sign for, such as ×
    try:
        if files.short_of_memory():
            raise MemoryError(f"less than {files.SPARE // 2**20} MiB are left of what this process may take")
        sys.exit(cli.main(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (Interrupted, KeyboardInterrupt, click.Abort) as stop:
        click.echo(f"stopped ({shown(str(stop)) or 'Ctrl-C'}); the same command goes on from there", err=True)
        sys.exit(130)
    except UserError as error:
        click.echo(f"Error: {shown(str(error))}", err=True)
        sys.exit(1)
    except Exception as error:
        if not (said := refused(error)):
            raise
        click.echo(f"Error: {shown(said)}", err=True)
        sys.exit(1)


def refused(error: Exception) -> str:
    """One sentence for what the system refused: room, memory, descriptors, a name; "" for a defect of ours."""
    if isinstance(error, OSError) and error.errno in _REFUSED:
        what = "a file is where a folder is wanted" if error.errno == errno.EEXIST else files.said(error)
        return f"{f'{error.filename}: ' if error.filename else ''}{what}; {_REFUSED[error.errno]}"
    what = (str(error).splitlines() or [type(error).__name__])[0]
    if files.wants_memory(error) or files.short_of_memory():
        return f"there is not enough memory for this ({what}); {_LESS}"
    if _DESCRIPTORS.search(what):
        return f"{what}; {_REFUSED[errno.EMFILE]}"
    return ""
