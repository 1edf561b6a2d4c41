"""Files in the state folder that were needed once: work folders of ended responses, pictures of old messages.

A package that came of a response lies with the packages and stays. Knows no retraining.
"""

from __future__ import annotations

import logging
import shutil
from datetime import datetime
from pathlib import Path

from sqlalchemy.engine import Engine
from sqlmodel import Session

from daemon.store.records import ResponseRecord

logger = logging.getLogger(__name__)


def forget_work_folders(engine: Engine, folder: Path, before: datetime, *, at_most: int) -> int:
    """Remove work folders of responses that ended before a time; returns how many.

    Parameters
    ----------
    folder
        Holds one folder for each response, named by its id; others are left alone.
    """
    if not folder.is_dir():
        return 0
    gone = 0
    with Session(engine) as session:
        for path in sorted(folder.iterdir()):
            if gone == at_most:
                break
            response = session.get(ResponseRecord, path.name)
            if (
                response is None
                or response.ended_at is None
                or response.ended_at >= before
                or path.is_symlink()
            ):
                continue
            try:
                shutil.rmtree(path)
            except OSError as error:
                logger.warning("%s cannot be removed (%s)", path, error.strerror)
            else:
                gone += 1
    return gone


def forget_pictures(folder: Path, before: datetime, *, at_most: int) -> int:
    """Remove pictures that were drawn before a time; returns how many."""
    if not folder.is_dir():
        return 0
    gone = 0
    for path in sorted(folder.glob("*.png")):
        if gone == at_most:
            break
        if path.stat().st_mtime < before.timestamp():
            path.unlink(missing_ok=True)
            gone += 1
    return gone
