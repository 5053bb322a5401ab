"""Messages of the protocol, and what is none."""

from __future__ import annotations

import contextlib
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.replay.dap.framing import MAX_BODY, ContentError, FramingError, MessageStream

pytestmark = pytest.mark.no_transformers


class Written:
    """Where a stream writes to."""

    def __init__(self) -> None:
        self.data = b""

    def sendall(self, data: bytes, /) -> None:
        self.data += data


def stream(data: bytes) -> MessageStream:
    return MessageStream(io.BytesIO(data), Written())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text().filter(lambda name: name != "seq"), JSON, max_size=4), max_size=3))
def test_what_is_written_is_read(messages: list[dict[str, object]]) -> None:
    written = Written()
    writer = MessageStream(io.BytesIO(), written)
    for message in messages:
        writer.write(message)
    reader = stream(written.data)
    for number, message in enumerate(messages, 1):
        assert reader.read() == {"seq": number, **message}
    assert reader.read() is None


def test_headers_of_any_case_and_order() -> None:
    assert stream(b"content-type: x\r\nCONTENT-LENGTH:2\r\n\r\n{}").read() == {}


@pytest.mark.parametrize(
    "data",
    [
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
        b"Content-Length: 2\r\nOrigin: http://evil.example\r\n\r\n{}",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n",
        b"{}\r\n",
        b"\r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: x\r\n\r\n",
        b"Content-Length: %d\r\n\r\n" % (MAX_BODY + 1),
        b"Content-Length: " + b"9" * 5000,
        b"Content-Type: x\r\n" * 5000,
        "Content-Length: ²\r\n\r\n".encode(),
    ],
    ids=lambda data: data[:20],
)
def test_what_is_no_message_ends_the_connection(data: bytes) -> None:
    with pytest.raises(FramingError) as error:
        stream(data).read()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("body", [b"{", b"[]", b"1", b'"x"', b"null", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_object_is_skipped(body: bytes) -> None:
    reader = stream(b"Content-Length: %d\r\n\r\n%sContent-Length: 2\r\n\r\n{}" % (len(body), body))
    with pytest.raises(ContentError):
        reader.read()
    assert reader.read() == {}


@given(st.binary(max_size=200))
def test_any_bytes_end_somehow(data: bytes) -> None:
    reader = stream(data)
    with contextlib.suppress(ContentError, FramingError):
        while reader.read() is not None:
            pass


def test_a_connection_that_ends_inside_a_message() -> None:
    whole = b"Content-Length: 13\r\n\r\n" + json.dumps({"seq": 1234}).encode()
    for length in range(len(whole)):
        assert stream(whole[:length]).read() is None
