"""How commands end when they are told to: cleanly, in the loop and outside of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
END_S_MAX = 60
PRELUDE = """
import contextlib, os, signal, threading, time
import trio
from cli._run import run, sigterm_interrupts

def tell_in(seconds):
    threading.Timer(seconds, os.kill, [os.getpid(), signal.SIGTERM]).start()

async def busy():
    try:
        while True:
            await trio.lowlevel.checkpoint()
    finally:
        print("closed", flush=True)
"""


def outcome(program: str) -> tuple[int, list[str], str]:
    """Exit code, lines and complaints of a program."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=END_S_MAX,
        check=False,
    )
    return done.returncode, done.stdout.split(), done.stderr


@pytest.mark.parametrize("delay_s", [0.05, 0.1, 0.2, 0.35])
def test_sigterm_in_the_loop_closes_everything_and_then_interrupts(delay_s: float) -> None:
    code, lines, complaints = outcome(
        f"""
with sigterm_interrupts():
    try:
        tell_in({delay_s})
        run(busy)
    except KeyboardInterrupt:
        print("interrupted")
"""
    )
    assert (code, lines, complaints) == (0, ["closed", "interrupted"], "")


def test_sigterm_before_the_loop_listens_is_not_lost() -> None:
    code, lines, complaints = outcome(
        """
class Early(trio.abc.Instrument):
    def before_run(self):
        os.kill(os.getpid(), signal.SIGTERM)

real = trio.run
trio.run = lambda *words: real(*words, instruments=[Early()])
try:
    run(busy)
except KeyboardInterrupt:
    print("interrupted")
"""
    )
    assert (code, lines[-1:], complaints) == (0, ["interrupted"], "")


def test_sigterm_while_the_loop_closes_is_not_lost() -> None:
    code, lines, complaints = outcome(
        """
class Late(trio.abc.Instrument):
    def after_run(self):
        os.kill(os.getpid(), signal.SIGTERM)

async def brief():
    return 7

real = trio.run
trio.run = lambda *words: real(*words, instruments=[Late()])
try:
    print(run(brief))
except KeyboardInterrupt:
    print("interrupted")
"""
    )
    assert (code, lines, complaints) == (0, ["interrupted"], "")


def test_outside_the_loop_the_first_sigterm_interrupts_and_later_ones_let_it_clean_up() -> None:
    code, lines, complaints = outcome(
        """
try:
    with sigterm_interrupts():
        try:
            tell_in(0.1)
            time.sleep(30)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)
            print("clean")
except KeyboardInterrupt:
    print("interrupted", signal.getsignal(signal.SIGTERM).name)
"""
    )
    assert (code, lines, complaints) == (0, ["clean", "interrupted", "SIG_DFL"], "")


def test_what_the_work_gives_and_raises_comes_out_as_itself() -> None:
    code, lines, complaints = outcome(
        """
async def fine():
    return "result"

async def wrong():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail)

async def fail():
    raise ValueError("mine")

print(run(fine))
try:
    run(wrong)
except ValueError as error:
    print(error)
"""
    )
    assert (code, lines, complaints) == (0, ["result", "mine"], "")
