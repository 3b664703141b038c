"""The matrix of faults names tests that exist, and says why a fault is not tried."""

from tests.faults import matrix


def test_every_fault_is_tried_by_tests_that_exist_or_has_a_reason() -> None:
    assert matrix.faults_of(matrix.rows()) == []


def test_faults_are_counted_by_engine() -> None:
    rows = [
        matrix.Row(fault="a", inject="b", holds="c", embedded=("x",), cluster=("y", "z")),
        matrix.Row(fault="a", inject="b", holds="c", missing="needs two machines"),
    ]
    assert matrix.counts(rows) == {"rows": 2, "embedded": 1, "cluster": 1, "simulated": 0, "not tried": 1}


def test_missing_tests_and_unknown_ones_are_wrong() -> None:
    without = matrix.Row(fault="a", inject="b", holds="c")
    unknown = matrix.Row(fault="a", inject="b", holds="c", cluster=("tests/faults/test_cluster.py::test_nothing",))
    assert len(matrix.faults_of({"1": without, "2": unknown})) == 2
