"""The command line, `keras-ext`: help and mistakes take no framework."""

import sys

import click

from keras_ext_cli.diagnose import diagnose
from keras_ext_cli.grow import grow
from keras_ext_cli.predict import predict
from keras_ext_cli.search import search


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="keras-ext", prog_name="keras-ext")
def cli() -> None:
    """Search for networks that learn, with a monitor that says why the others do not.

    The backend is Keras's: KERAS_BACKEND=jax keras-ext search ...
    """


for command in (search, grow, predict, diagnose):
    cli.add_command(command)


def main() -> None:
    """Run the command line; a mistake of the user's ends in one line and exit code 2."""
    try:
        code = cli(prog_name="keras-ext", standalone_mode=False) or 0
    except SystemExit as error:
        code = error.code
    except (ValueError, click.ClickException) as error:
        if not isinstance(error, click.ClickException) and type(error).__name__ != "BadInput":  # whose import takes seconds
            raise
        text = error.format_message() if isinstance(error, click.ClickException) else str(error)
        if isinstance(error, click.NoSuchOption):
            text = f"no such option {error.option_name}."  # click's wording differs between versions
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "keras-ext"
        hint = f" See {command} --help." if isinstance(error, click.UsageError) else ""
        print(f"keras-ext: {' '.join(text.split())}{hint}", file=sys.stderr)
        code = 2
    except (click.Abort, KeyboardInterrupt):
        code = 130
    sys.exit(code)
