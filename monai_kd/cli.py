# SPDX-License-Identifier: Apache-2.0
"""The command line: every verb works on any bundle, by what the bundle's configuration says."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.dummy import DummyProcess

import fire
from fire.helptext import HelpText
from fire.trace import FireTrace

from .command_line.bundles import copy, generate, list_bundles, verify
from .command_line.comparing import compare
from .command_line.errors import DONE, SOME_FAILED, reason, status_of
from .command_line.exporting import export
from .command_line.inference import evaluate, infer
from .command_line.labelling import label_app
from .command_line.output import say
from .command_line.publishing import publish
from .command_line.training import train
from .command_line.words import as_typed, check_options, switches
from .names import check_known

__all__ = ["VERBS", "main"]

VERBS: dict[str, Callable[..., int]] = {
    "list": list_bundles,
    "generate": generate,
    "train": train,
    "infer": infer,
    "evaluate": evaluate,
    "compare": compare,
    "export": export,
    "verify": verify,
    "copy": copy,
    "label_app": label_app,
    "publish": publish,
}
"""What there is to do, in the order in which help shows it."""

_HELP = ("-h", "--help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after ``python -m monai_kd``; by default those of this process.

    Returns:
        The exit status: 0 all done; 1 some cases failed, or the work broke off; 2 the call itself is wrong.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if not words or words[0] in _HELP:
        return _show_verbs()
    try:
        return _run(*words)
    except SystemExit as exit_:  # fire's own, on a call that does not fit
        return int(exit_.code or 0)
    except KeyboardInterrupt:
        cure = "; go on with --resume" if words[0] in ("train", "infer") else ""
        cure = "; the same command goes on" if words[0] == "compare" else cure
        sys.stderr.write(f"interrupted{cure}\n")
        return SOME_FAILED
    except Exception as error:
        if debug:
            traceback.print_exc()
        sys.stderr.write(f"error: {reason(error)}\n")
        return status_of(error)
    finally:
        _wait_for_readers()


def _run(name: str, *words: str) -> int:
    """Run a verb, or show its help wherever in the words that is asked for; then nothing else is done."""
    check_known(name, VERBS, "verb")
    verb = VERBS[name]
    if any(word.partition("=")[0] in _HELP for word in words):
        return _show_help(name)
    check_options(name, verb, words)
    typed = [as_typed(word, switches(verb)) for word in words]
    status = fire.Fire(VERBS, command=[name, *typed], name="monai_kd", serialize=lambda result: None)
    return status if isinstance(status, int) else DONE


def _show_help(name: str) -> int:
    """Show what a verb takes."""
    trace = FireTrace(VERBS, name="monai_kd")
    trace.AddAccessedProperty(VERBS[name], name, [name], None, None)
    say(HelpText(VERBS[name], trace=trace))
    return DONE


def _show_verbs() -> int:
    """Show what there is to do."""
    say("python -m monai_kd VERB ...\n")
    for name, verb in VERBS.items():
        say(f"  {name:<9} {(verb.__doc__ or '').splitlines()[0]}")
    say("\npython -m monai_kd VERB --help shows what a verb takes; --debug shows the trace of an error")
    return DONE


def _wait_for_readers() -> None:
    """Let the threads that fill MONAI's caches end: after an error its pool leaves them alone.

    Python would stop them in the middle of a file, in code that aborts the process then, or waits for ever.
    """
    for thread in threading.enumerate():
        if isinstance(thread, DummyProcess):
            thread.join(timeout=60)
