"""The forms of `--bind`."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sage_edge.core.bind import Bind, FileDescriptorBind, SystemdBind, TCPBind, UnixBind, is_same_place, parse_bind


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        ("localhost:80", TCPBind("localhost", 80)),
        ("0.0.0.0:0", TCPBind("0.0.0.0", 0)),
        ("[::1]:65535", TCPBind("::1", 65535)),
        ("[fe80::1%eth0]:80", TCPBind("fe80::1%eth0", 80)),
        ("unix:/run/edge.sock", UnixBind("/run/edge.sock")),
        ("unix:edge.sock", UnixBind("edge.sock")),
        ("unix:@edge", UnixBind("@edge")),
        ("fd://3", FileDescriptorBind(3)),
        ("systemd", SystemdBind()),
        ("systemd:https", SystemdBind("https")),
        ("systemd:8899", TCPBind("systemd", 8899)),
    ],
)
def test_every_form_is_read_and_written(text: str, bind: Bind) -> None:
    assert parse_bind(text) == bind
    assert str(bind) == text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not host:port"),
        ("localhost", "is not host:port"),
        (":80", "is not host:port"),
        ("unix:", "needs a path"),
        ("unix:@", "or a name"),
        ("systemd:", "needs the FileDescriptorName"),
        ("fd://", "number of a file descriptor"),
        ("fd://x", "number of a file descriptor"),
        ("fd://-1", "number of a file descriptor"),
        ("fd://1234567890", "number of a file descriptor"),
        ("::1:80", r"in brackets, as in \[::1\]:80"),
        ("[]:80", "does not name a host"),
        ("[[::1]]:80", "does not name a host"),
        ("a b:80", "does not name a host"),
        ("a/b:80", "does not name a host"),
        ("localhost:", "is not a TCP port"),
        ("localhost:65536", "is not a TCP port"),
        ("localhost:-1", "is not a TCP port"),
        ("localhost:http", "is not a TCP port"),
        ("localhost:٣", "is not a TCP port"),
        ("localhost:1_0", "is not a TCP port"),
    ],
)
def test_what_is_wrong_is_said(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_bind(text)


def test_a_name_in_the_abstract_space_is_no_path() -> None:
    assert UnixBind("@edge").address == "\0edge"
    assert UnixBind("./@edge").address == "./@edge"


@given(
    st.one_of(
        st.text(),
        st.text("[]:/0123456789ab.% \n"),
        st.tuples(st.text(), st.integers()).map("{0[0]}:{0[1]}".format),
        st.text().map("unix:{}".format),
        st.text().map("fd://{}".format),
    )
)
@example("[a]:1")
def test_whatever_is_accepted_is_written_so_that_it_reads_the_same(text: str) -> None:
    try:
        bind = parse_bind(text)
    except ValueError:
        return
    assert parse_bind(str(bind)) == bind


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("127.0.0.1:80", "127.0.0.1:80", True),
        ("127.0.0.1:80", "127.0.0.1:81", False),
        ("127.0.0.1:80", "127.0.0.2:80", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
        ("0.0.0.0:80", "127.0.0.1:80", True),
        ("[::]:80", "[::1]:80", True),
        ("0.0.0.0:80", "[::1]:80", False),
        ("0.0.0.0:80", "edge.test:80", False),
        ("edge.test:80", "edge.test:80", True),
        ("unix:a", "unix:a", True),
        ("unix:a", "unix:@a", False),
        ("fd://3", "fd://3", True),
        ("systemd:a", "systemd:a", True),
        ("systemd", "systemd:a", False),
        ("fd://3", "127.0.0.1:3", False),
    ],
)
def test_one_place_is_for_one_listener(one: str, other: str, is_same: bool) -> None:
    assert is_same_place(parse_bind(one), parse_bind(other)) is is_same
    assert is_same_place(parse_bind(other), parse_bind(one)) is is_same
