"""Real corpora that the tests of the audit share."""

from __future__ import annotations

from pathlib import Path

import pytest

from karat import records
from karat.records import Records


@pytest.fixture(scope="session")
def ag_news(data_dir: Path) -> Records:
    """The 7,600 news items of AG News test, title and description joined by a space."""
    path = data_dir / "ag_news_test" / "ag_news_test.jsonl.gz"
    return records.read(path, fields={"text": "title+description"})
