"""A connection to a mail server, seen from a process that stands still for a while."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.waiting import until

ROOT = Path(__file__).parents[4]
TIMEOUT = 2.0
CLIENT = f"""
import asyncio, sys
from tasks.delivery.smtp.connection import MailServer, Security, opened

async def ask():
    where = {{"host": "127.0.0.1", "port": int(sys.argv[1]), "security": Security.NONE}}
    line = await opened(MailServer(**where, timeout_seconds={TIMEOUT}), "client.example")
    replies = []
    await line.exchange([b"NOOP\\r\\n", b"NOOP\\r\\n"], replies)
    print([str(reply) for reply in replies])

asyncio.run(ask())
"""


@pytest.mark.slow
def test_a_reply_that_came_while_the_process_stood_still_counts() -> None:
    """A machine that slept past the timeout finds the answer there: the message is not in doubt."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(listening.getsockname()[1])],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        connection, _ = listening.accept()
        with connection, connection.makefile("rb") as said:
            connection.sendall(b"220 mail.example\r\n")
            assert said.readline().startswith(b"EHLO")
            connection.sendall(b"250-mail.example\r\n250 PIPELINING\r\n")
            assert (said.readline(), said.readline()) == (b"NOOP\r\n", b"NOOP\r\n")
            until(lambda: psutil.Process(client.pid).status() == psutil.STATUS_SLEEPING)  # it waits for the replies
            client.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, client.pid, os.WSTOPPED | os.WNOWAIT)
            connection.sendall(b"250 first\r\n250 second\r\n")
            time.sleep(TIMEOUT * 1.2)
            client.send_signal(signal.SIGCONT)
            told, errors = client.communicate(timeout=600)
    assert told.strip() == "['250 first', '250 second']", errors[-2000:]
