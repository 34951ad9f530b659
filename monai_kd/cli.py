# SPDX-License-Identifier: Apache-2.0
"""The command line: every verb works on any bundle, by what the bundle's configuration says."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from multiprocessing.dummy import DummyProcess

import fire
from fire.helptext import HelpText
from fire.trace import FireTrace

import monai_kd

from .command_line.bundles import copy, generate, list_bundles, verify
from .command_line.comparing import compare
from .command_line.errors import DONE, SOME_FAILED, reason, status_of
from .command_line.exporting import export
from .command_line.inference import evaluate, infer
from .command_line.interrupt import has_arrived, was_interrupted
from .command_line.labelling import label_app
from .command_line.output import Console, LogRecord, complain, say, without_missing_reader
from .command_line.publishing import publish
from .command_line.training import train
from .command_line.words import as_typed, check_options, joined, switches
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
_GO_ON = dict.fromkeys(("train", "infer"), "; go on with --resume") | {"compare": "; the same command goes on"}


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
    makes_records = logging.getLogRecordFactory()
    logging.setLogRecordFactory(LogRecord)
    try:
        with redirect_stdout(Console(sys.stdout)), without_missing_reader():
            return _end(words, debug)
    finally:
        logging.setLogRecordFactory(makes_records)


def _end(words: Sequence[str], debug: bool) -> int:
    """The exit status of a command, however it ends."""
    try:
        return _run(*words) if words else _show_verbs()
    except SystemExit as exit_:  # fire's own, on a call that does not fit
        return int(exit_.code or 0)
    except (Exception, KeyboardInterrupt) as error:
        if was_interrupted(error):
            has_arrived()
            complain(f"interrupted{_GO_ON.get(words[0], '')}")
            return SOME_FAILED
        if debug:
            traceback.print_exc()
        complain(f"error: {reason(error)}")
        _wait_for_readers()
        return status_of(error)
    finally:
        sys.stdout.flush()


def _run(name: str, *words: str) -> int:
    """Run a verb, or show its help wherever in the words that is asked for; then nothing else is done."""
    if name in _HELP:
        return _show_verbs()
    if name == "--version":
        say(f"monai_kd {monai_kd.__version__}")
        return DONE
    check_known(name, VERBS, "verb")
    verb = VERBS[name]
    if any(word.partition("=")[0] in _HELP for word in words):
        return _show_help(name)
    words = tuple(joined(words, "--config"))
    check_options(name, verb, words)
    typed = [as_typed(word, switches(verb)) for word in words]
    status = fire.Fire(VERBS, command=[name, *typed], name="monai_kd", serialize=lambda result: None)
    return status if isinstance(status, int) else DONE


def _show_help(name: str) -> int:
    """Show what a verb takes."""
    trace = FireTrace(VERBS, name="monai_kd")
    trace.AddAccessedProperty(VERBS[name], name, [name], None, None)
    say(*HelpText(VERBS[name], trace=trace).splitlines())
    return DONE


def _show_verbs() -> int:
    """Show what there is to do."""
    say("python -m monai_kd VERB ...", "")
    for name, verb in VERBS.items():
        say(f"  {name:<9} {(verb.__doc__ or '').splitlines()[0]}")
    say("", "python -m monai_kd VERB --help shows what a verb takes; --debug shows the trace of an error")
    return DONE


def _wait_for_readers() -> None:
    """Let the threads that fill MONAI's caches end: after an error its pool leaves them alone.

    Python would stop them in the middle of a file, in code that aborts the process then, or waits for ever.
    """
    for thread in threading.enumerate():
        if isinstance(thread, DummyProcess):
            thread.join(timeout=60)
