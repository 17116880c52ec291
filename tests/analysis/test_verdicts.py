"""Theory against outcome, on records written by hand."""

import numpy as np
import pytest

from easyedit_rep.analysis.lemma import FAR
from easyedit_rep.analysis.verdicts import ratios, table, verdicts


def arm(dose, held, low=0.2, high=FAR):
    return {"dose": dose, "low": low, "high": high, "held": held}


def point(kind, base, rep):
    return {"kind": kind, "domain": "", "base": base, "rep": rep}


@pytest.fixture
def records():
    """β_min of the edit is 0.5; a query's own is 0.2 where nothing else is said."""
    points = [
        point("rephrase", arm(0.6, True), arm(1.0, True)),
        point("rephrase", arm(0.1, False), arm(1.0, False)),
        point("rephrase", arm(0.4, True), arm(0.1, True)),
        point("rephrase", arm(0.7, False), arm(0.1, False)),
        point("unrelated", arm(0.1, True, -0.3, 0.4), arm(0.1, True, -0.3, 0.4)),
        point("unrelated", arm(-0.6, False, -0.3, 0.4), arm(0.5, True, -0.3, 0.4)),
    ]
    refused = {"index": 1, "subject": "Paris", "error": "no"}
    return [{"index": 0, "subject": "Ann Lee", "bounds": [0.5, FAR], "points": points}, refused]


def test_a_subjects_queries_go_by_the_edits_bounds_and_unrelated_ones_by_their_own(records):
    found = verdicts(records)
    base = found[found["arm"] == "base"]
    assert base["within"].tolist() == [True, False, False, True, True, False]
    assert base["own_within"].tolist() == [True, False, True, True, True, False]
    assert len(found) == 12


def test_the_confusion_table_counts_each_of_the_four(records):
    rows = {row["keys of"]: row for row in table(records).to_dict("records")}
    row = rows["rephrase, base edit"]
    assert (row["said to hold: held / failed"], row["said to fail: failed / held"]) == ("1 / 1", "1 / 1")
    assert (row["within bounds (%)"], row["held (%)"], row["theory right (%)"]) == ("50.0", "50.0", "50.0")
    assert row["right by own ε (%)"] == "75.0"
    assert rows["unrelated, base edit"]["theory right (%)"] == "100.0"
    assert rows["unrelated, with REP"]["said to fail: failed / held"] == "0 / 1"


def test_ratios_are_1_at_the_bound_on_the_doses_side(records):
    found = ratios(verdicts(records))
    assert found.iloc[:8:2].tolist() == pytest.approx([1.2, 0.2, 0.8, 1.4])  # dose / 0.5, the base edit's
    assert found.iloc[[8, 10, 11]].tolist() == pytest.approx([0.25, 2.0, 1.25])
    records[0]["points"][4]["base"] = arm(0.1, True, -0.3, -0.1)
    assert np.isinf(ratios(verdicts(records)).iloc[8]), "no room at all"
