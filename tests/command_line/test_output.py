# SPDX-License-Identifier: Apache-2.0
"""What is shown, and what a terminal makes of it."""

import io
import logging

import pytest
from tqdm import tqdm

from monai_kd import cli
from monai_kd.command_line.output import Console, LogRecord, plain, say

NAME = "a\x1b]0;owned\x07\n\u202egnp.b\udc80"  # changes a window's title, begins a line, turns the text around
SHOWN = "a\\x1b]0;owned\\x07\\n\\u202egnp.b\\udc80"


def test_control_characters_are_shown_and_others_stay():
    assert plain(NAME) == SHOWN
    assert plain("Füße 断層 a b") == "Füße 断層 a b"
    assert plain("a\nb\tc", keep="\n") == "a\nb\\tc"


def test_verbs_errors_and_logs_show_names_in_one_line(monkeypatch, capsys):
    def show():
        say(NAME)
        logger, handler = logging.getLogger("monai_kd.test"), logging.StreamHandler(cli.sys.stdout)
        logger.addHandler(handler)
        logger.propagate = False
        logger.error("1 %s", NAME)
        logger.error(f"2 {NAME}")
        logger.error("3\n4", extra={"lines": True})
        logger.removeHandler(handler)
        raise ValueError(f"{NAME} is damaged")

    monkeypatch.setitem(cli.VERBS, "list", show)
    assert cli.main(["list"]) == 2
    assert capsys.readouterr() == (f"{SHOWN}\n1 {SHOWN}\n2 {SHOWN}\n3\n4\n", f"error: {SHOWN} is damaged\n")
    assert logging.getLogRecordFactory() is logging.LogRecord


def test_lines_of_other_packages_keep_their_newlines_only():
    record = LogRecord("ignite.engine", logging.INFO, "", 0, "one\n%s", (NAME,), None)
    assert record.getMessage() == "one\n" + SHOWN.replace("\\n", "\n")


class Terminal(io.StringIO):
    """What is seen: a carriage return goes to the start of the line, and what follows is written over it."""

    def isatty(self):
        return True

    @property
    def screen(self):
        lines = []
        for line in self.getvalue().split("\n"):
            seen = ""
            for part in line.split("\r"):
                seen = part + seen[len(part) :]
            lines.append(seen.rstrip())
        return lines


def test_lines_between_progress_bars_leave_no_remains(monkeypatch):
    terminal = Terminal()
    console = Console(terminal)
    monkeypatch.setattr("sys.stdout", console)
    monkeypatch.setattr("sys.stderr", terminal)
    for _ in tqdm(range(3), desc="training", leave=False, ncols=80, disable=None, mininterval=0):
        say("epoch")
    say("done")
    assert "training" in terminal.getvalue() and terminal.screen == ["epoch"] * 3 + ["done", ""]


def test_a_terminal_without_a_names_letters_shows_their_numbers():
    written = io.BytesIO()
    console = Console(io.TextIOWrapper(written, "ascii"))
    console.write("M\xfcller\n")
    console.flush()
    assert written.getvalue() == b"M\\xfcller\n"


def test_without_a_stream_nothing_is_shown_and_nothing_fails():
    console = Console(None)
    assert console.write("text") == 4 and console.flush() is None


@pytest.mark.parametrize("method", ["write", "flush"])
def test_a_stream_that_nobody_reads_is_no_error(method, tmp_path):
    with open(tmp_path / "file", "w") as file:

        class Pipe(io.StringIO):
            fileno = file.fileno

            def fail(self, *_):
                raise BrokenPipeError

        setattr(Pipe, method, Pipe.fail)
        getattr(Console(Pipe()), method)(*["text"][: method == "write"])
