"""Kill a program while it replaces a file, or fill its disk: imported when a process starts.

The environment holds the number of the write, counted in each process: once when the temporary
file is whole, once when the target is replaced. The program's first process is the one to kill.
"""

import errno
import itertools
import os
import signal
import time


def die_in_write(number: int, program: int) -> None:
    writes = itertools.count()

    def dying(function):
        def call(*arguments, **keywords):
            result = function(*arguments, **keywords)
            if next(writes) == number:
                os.kill(program, signal.SIGKILL)
                time.sleep(60)  # until this process ends with the program
            return result

        return call

    os.fsync, os.replace = dying(os.fsync), dying(os.replace)


def full_disk(*_) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


if "FULL_DISK" in os.environ:
    os.fsync = full_disk
if "KILLED_IN_WRITE" in os.environ:
    first = os.environ.setdefault("KILLED_PROGRAM", str(os.getpid()))
    die_in_write(int(os.environ["KILLED_IN_WRITE"]), int(first))
