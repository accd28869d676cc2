"""Waits are said: what for, how long, how to stop."""

import logging
import threading
from contextvars import copy_context
from pathlib import Path

import polars as pl
import pytest
from prefect import flow
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings

from tasks.channels.email import email
from tasks.delivery.smtp import carrier
from tasks.errors import MailServerUnavailable
from tasks.runs import waits
from tasks.runs.locks import SystemLocks
from tasks.send import Send
from tests.deployments.composed import free_port
from tests.tasks.channels.email_flow import options_for


def test_a_lock_that_another_holds_is_waited_for_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waits, "SILENCE_SECONDS", 0.01)
    told, words = threading.Event(), list[str]()

    class Telling(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            words.append(record.getMessage())
            told.set()

    logger = logging.getLogger("campaigns")
    handler = Telling()
    logger.addHandler(handler)
    try:
        with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: tmp_path}):
            one, other = SystemLocks(), SystemLocks()
            assert one.acquire_lock("call", "one")
            assert not other.acquire_lock("call", "other", acquire_timeout=0)
            assert words == []
            waiting = threading.Thread(target=copy_context().run, args=(other.acquire_lock, "call", "other"))
            waiting.start()
            assert told.wait(30)
            one.release_lock("call", "one")
            waiting.join(30)
            assert other.is_lock_holder("call", "other")
            other.release_lock("call", "other")
    finally:
        logger.removeHandler(handler)
    assert words == [
        "Waiting for another run on this machine that makes the same call or result, until it is done."
        " Cancel, or Ctrl-C, ends this run."
    ]


def test_a_mail_server_that_refuses_connections_is_waited_for_in_words(
    tmp_path: Path, result_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(carrier, "SILENCE_SECONDS", 0.0)
    message = {"profile_id": "1", "email": "a@x.example", "subject": "s", "html": "h", "text": "t"}

    @flow
    def campaign() -> None:
        options = options_for(free_port(), tmp_path, server={"patience_seconds": 1})
        email(pl.DataFrame([message]), options, Send(campaign="waits", label="W", business_date="2026-11-24"))

    with pytest.raises(MailServerUnavailable):
        campaign()
    assert "takes nothing (" in caplog.text
    assert "it is tried again, for 1 seconds at most. Cancel, or Ctrl-C, ends this run" in caplog.text
