"""Which errors of a curation are a policy that failed, and which are those of the whole search."""

from __future__ import annotations

import pytest

from karat.errors import KaratError, UnknownPart
from karat.records import from_rows
from karat.valuation.auto import auto_curate
from karat.valuation.policies import ROW, Recipe, apply

ROWS = from_rows(
    [{"text": f"{'tide gull' if i % 2 else 'oak fern'} {i}", "label": "ab"[i % 2]} for i in range(40)]
)


def test_a_misspelt_name_stops_the_search() -> None:
    """It names the part, and what may have been meant; before any other policy is proven on the test."""
    test = from_rows([{"text": f"wave or bark {i}", "label": "ab"[i % 2]} for i in range(10)])
    with pytest.raises(UnknownPart, match=r"agrement.*agreement"):
        auto_curate(ROWS, ROWS, test, orders=("agrement",), budget="small", seeds=1)


def test_a_part_that_these_records_do_not_have_is_a_policy_that_failed() -> None:
    """No field holds how sure a generator was: the reason is returned."""
    records = ROWS.with_column(ROW, list(range(40)))
    found = apply(Recipe((), "confidence:field=sure"), records, ROWS)
    assert isinstance(found, KaratError) and not isinstance(found, UnknownPart)


def test_what_could_not_be_run_is_told_wherever_the_search_is_shown() -> None:
    """In text, report and JSON, with its reason."""
    test = from_rows([{"text": f"wave or bark {i}", "label": "ab"[i % 2]} for i in range(10)])
    spec = "confidence:field=sure"
    found = auto_curate(ROWS, ROWS, test, orders=(spec,), budget="small", seeds=1)
    assert found.failed
    (section,) = found.__report__()
    for shown in (str(found), repr(section.blocks), repr(found.to_json())):
        assert spec in shown and "no field 'sure'" in shown
