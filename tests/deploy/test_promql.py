"""What is read of a query, for the tests of alerts and dashboard to rely on."""

from __future__ import annotations

import pytest

from tests.kit.promql import read_query


@pytest.mark.parametrize(
    ("text", "selected", "grouped"),
    [
        ("up", {"up": set()}, set()),
        ('up{job="sage-edge"} == 0', {"up": {"job"}}, set()),
        ("a - b > bool 14 * 86400", {"a": set(), "b": set()}, set()),
        ("sum by (x, le) (rate(a_bucket{y=~'no{thing', z!=\"by (v)\"}[5m]))", {"a_bucket": {"y", "z"}}, {"x", "le"}),
        ("sum(rate(a[5m] offset 1h)) by (x)", {"a": set()}, {"x"}),
        ("a / on (x) group_left (y) b", {"a": set(), "b": set()}, {"x", "y"}),
        ("a * on (x) group_left b", {"a": set(), "b": set()}, {"x"}),
        ("histogram_quantile(0.99, a) or vector(0) unless inf", {"a": set()}, set()),
        ("max_over_time(a:b{c=''}[1d:1m]) # d", {"a:b": {"c"}}, set()),
        ("time() - 1e9 * 2.5", {}, set()),
    ],
)
def test_series_labels_and_groupings_are_found(text: str, selected: dict[str, set[str]], grouped: set[str]) -> None:
    query = read_query(text)
    assert dict(query.selected) == selected
    assert query.grouped == grouped


def test_what_is_no_query_is_none() -> None:
    with pytest.raises(ValueError, match="no part of a query"):
        read_query("a ? b")
