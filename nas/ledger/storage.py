"""Where the ledger lives: a journal file that survives a crash at any byte, or a database."""

from __future__ import annotations

import copy
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from filelock import FileLock
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.experiment.database_url import masked, masked_text, with_driver

HEARTBEAT_S = 20
"""Seconds between the signs of life of an evaluation in a database."""
RETRIES = 3
"""How often a candidate whose worker died is given to another one."""


class StorageError(ValueError):
    """The ledger cannot be opened, read or written."""


def open_storage(url: str | None, journal: Path, heartbeat_s: int = HEARTBEAT_S) -> BaseStorage:
    """Open a database URL, or the journal file of a run folder when there is none.

    Raises StorageError, without the password, when that cannot be done.
    """
    with storage_errors(url, journal):
        return _open_journal(journal) if url is None else _open_database(url, heartbeat_s)


@contextmanager
def storage_errors(url: str | None, journal: Path) -> Iterator[None]:
    """Turn what Optuna and its database raise into a StorageError that names the place."""
    from sqlalchemy.exc import SQLAlchemyError

    where = str(journal) if url is None else masked(url)
    try:
        yield
    except json.JSONDecodeError as error:
        raise StorageError(
            f"{where}: a line in the middle is damaged ({error}); restore the file from a backup, "
            "or delete the line: only what it recorded is lost"
        ) from None
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise StorageError(
            masked_text(f"{where}: the database failed ({reason}); nothing recorded is lost, ")
            + "run the same command again when it is back"
        ) from None


def _open_database(url: str, heartbeat_s: int) -> BaseStorage:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    arguments: dict[str, object] = {"pool_pre_ping": True}
    if url.startswith("sqlite"):
        arguments["connect_args"] = {"timeout": 60}
    try:
        make_url(url)
    except (ArgumentError, ValueError):  # whose words may quote a part of the password
        raise StorageError(
            f"storage: {masked(url)} is no database URL such as postgresql://user@host:5432/name; "
            "in a password, write @ : / as %40 %3A %2F"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return RDBStorage(
                with_driver(url),
                engine_kwargs=arguments,
                heartbeat_interval=heartbeat_s,
                grace_period=3 * heartbeat_s,
                heartbeat_stale_trial_callback=retry,
            )
    except ImportError:
        database, _, driver = with_driver(url).partition("://")[0].partition("+")
        raise StorageError(
            f"storage: {masked(url)} needs the Python package {driver or 'of its driver'}, which "
            f"is not installed; pip install 'simqnas[{database}]' brings the usual one"
        ) from None


def retry(study: optuna.Study, dead: FrozenTrial) -> None:
    """Queue a trial whose worker died again; after `RETRIES` times it has failed."""
    dead = copy.copy(dead)
    own = {"worker", "metrics", "details"}
    dead.user_attrs = {name: v for name, v in dead.user_attrs.items() if name not in own}
    deaths = len(dead.system_attrs.get("retry_history", [])) + 1
    if deaths <= RETRIES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.storages.RetryHeartbeatStaleTrialCallback()(study, dead)
        return
    failure = f"its process died {deaths} times (out of memory, or stopped from outside?)"
    study.add_trial(
        create_trial(
            state=TrialState.FAIL,
            params=dead.params,
            distributions=dead.distributions,
            user_attrs={**dead.user_attrs, "failure": failure},
        )
    )


def _open_journal(journal: Path) -> BaseStorage:
    lock = JournalLock(journal)
    if journal.exists():
        lock.acquire()
        lock.release()
    try:
        return JournalStorage(JournalFileBackend(str(journal), lock_obj=lock))
    except (KeyError, TypeError, AttributeError) as error:  # JSON, but none of Optuna's
        raise StorageError(
            f"{journal}: a line is damaged ({error!r}); restore the file from a backup, or delete "
            "the line: only what it recorded is lost"
        ) from None


class JournalLock(BaseJournalFileLock):
    """Holds a journal for one process at a time; the kernel lets go of it when that dies.

    Whoever gets it removes what a crash left of a last line: an append would corrupt it. The file
    must not be Optuna's own `<journal>.lock`, which is a link to the journal while it is held.
    """

    def __init__(self, journal: Path):
        self._journal = journal
        self._lock = FileLock(journal.with_name(journal.name + ".writer.lock"))

    def acquire(self) -> bool:
        """Wait for the lock, then repair the journal's end."""
        self._lock.acquire(poll_interval=0.002)  # an append takes about a millisecond
        cut_torn_tail(self._journal)
        return True

    def release(self) -> None:
        """Let the next one in."""
        self._lock.release()


def cut_torn_tail(journal: Path) -> None:
    """Drop a last line that a crash left without its newline."""
    with journal.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        whole = file.read().rfind(b"\n") + 1
    os.truncate(journal, whole)
