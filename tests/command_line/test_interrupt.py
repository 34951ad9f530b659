# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C, sent to real processes."""

import random
import signal
import subprocess
import sys
import time

from monai_kd.command_line.interrupt import was_interrupted

# Tests that run in the background inherit that Ctrl-C is ignored.
BEGIN = """
import signal, sys
from monai_kd.command_line.interrupt import has_arrived, raise_on_interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)
raise_on_interrupt()
"""


def test_ctrl_c_is_never_lost_while_workers_start():
    code = """
from multiprocessing import get_context
worker = get_context("fork").Process
while True:
    try:
        print("started", flush=True)
        while True:
            workers = [worker(target=len, args=((),)) for _ in range(4)]
            for one in workers:
                one.start()
            for one in workers:
                one.join()
    except KeyboardInterrupt:
        has_arrived()
        print("interrupted", flush=True)
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", BEGIN + code], **pipes) as process:
        draw = random.Random(0)
        try:
            for _ in range(20):
                assert process.stdout.readline() == "started\n"
                time.sleep(draw.uniform(0.005, 0.03))
                process.send_signal(signal.SIGINT)
                assert process.stdout.readline() == "interrupted\n"
        finally:
            process.kill()
        assert process.stderr.read() == ""


def test_ctrl_c_that_somebody_caught_is_raised_again():
    code = """
import time
from monai_kd.command_line import interrupt
interrupt._LATER = 0.1
try:
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        time.sleep(30)  # as a library does that goes on
except KeyboardInterrupt:
    has_arrived()
    time.sleep(0.3)
    sys.exit(7)
"""
    assert subprocess.run([sys.executable, "-c", BEGIN + code], timeout=60).returncode == 7


def test_an_interrupt_that_was_caught_leaves_the_exit_status_to_the_program():
    code = """
try:
    eval("signal.raise_signal(signal.SIGINT)")  # Python would now end with a signal, whatever the status
except KeyboardInterrupt:
    sys.exit(1)
"""
    assert subprocess.run([sys.executable, "-c", BEGIN + code], timeout=60).returncode == 1


def test_workers_leave_ctrl_c_to_the_process_that_started_them():
    code = """
import os
child = os.fork()
if child == 0:
    signal.raise_signal(signal.SIGINT)
    os._exit(3)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", BEGIN + code], timeout=60).returncode == 3


def test_a_command_ends_at_once_though_a_thread_is_busy():
    code = """
import threading, time
from multiprocessing.dummy import DummyProcess
from monai_kd import __main__, cli

def read():
    DummyProcess(target=time.sleep, args=(300,)).start()  # as MONAI's caches read a large file
    print("started", flush=True)
    time.sleep(300)

cli.VERBS["infer"] = read
sys.argv = ["monai_kd", "infer"]
signal.signal(signal.SIGINT, signal.default_int_handler)
__main__.command()
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", BEGIN + code], **pipes) as process:
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=50) == ("", "interrupted; go on with --resume\n")
        assert process.returncode == 1


def test_what_a_library_makes_of_an_interrupt_is_one():
    try:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise ImportError("no module")
    except ImportError as error:
        assert was_interrupted(error)
    assert not was_interrupted(ValueError())
