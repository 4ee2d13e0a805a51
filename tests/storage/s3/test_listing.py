"""Listings: every page, every spelling, every server's dialect."""

import re
from dataclasses import replace
from itertools import count

import pytest

from datacachalog.errors import (
    AccessDeniedError,
    IntegrityError,
    ObjectNotFoundError,
    StorageError,
    ThrottledError,
)
from datacachalog.sync.retry import is_transient
from tests.fake_s3 import DATE, FakeS3, Reply, Request, error, etag_of, page_of


def listed(server: FakeS3, pattern: str = "**") -> list[str]:
    """Return the keys that a scan finds."""
    with server:
        found = list(server.storage().scan(f"s3://bucket/{pattern}"))
    return [obj.uri.removeprefix("s3://bucket/") for obj in found]


@pytest.mark.parametrize(
    ("count", "requests"), [(0, 1), (1, 1), (999, 1), (1000, 1), (1001, 2), (2000, 2), (2001, 3)]
)
def test_every_page_is_read_and_none_twice(count: int, requests: int) -> None:
    """A listing takes as many requests as it has pages, and nothing per key."""
    keys = [f"k/{i:05d}" for i in range(count)]
    with FakeS3(dict.fromkeys(keys, b"")) as server:
        found = [obj.relpath for obj in server.storage().scan("s3://bucket/k/*")]

        assert found == [key[2:] for key in keys]
        assert len(server.requests) == requests


ODD = ["a b+c", "a&b<c>\"'", "é/日本", "50%", "k//y", "tab\there", "x/", "../up", "plain"]


def varied(request: Request, reply: Reply) -> Reply:
    """Turn the fields of the second entry of each three around, and leave out the third's ETag."""
    index = count()

    def vary(match: re.Match[bytes]) -> bytes:
        fields = re.findall(rb"<(?:Key|Last|ETag|Size).*?</.*?>", match[0])
        fields = [fields, fields[::-1], [*fields[:2], *fields[3:]]][next(index) % 3]
        fields.append(b"<ChecksumAlgorithm>CRC32</ChecksumAlgorithm>")
        return b"<Contents>%s</Contents>" % b"".join(fields)

    return replace(reply, body=re.sub(rb"<Contents>.*?</Contents>", vary, reply.body))


def indented(request: Request, reply: Reply) -> Reply:
    """Put white space between all elements."""
    return replace(reply, body=reply.body.replace(b"><", b">\n    <"))


@pytest.mark.parametrize("is_indented", [False, True], ids=["compact", "indented"])
@pytest.mark.parametrize("varies", [False, True], ids=["uniform", "varying"])
@pytest.mark.parametrize("is_encoded", [True, False], ids=["url-encoded", "raw"])
def test_dialects(is_encoded: bool, varies: bool, is_indented: bool) -> None:
    """Encoded or raw keys, fields in any order or absent, with or without white space."""
    objects = {key: b"x" * i for i, key in enumerate(ODD, start=1)}

    def change(request: Request, reply: Reply) -> Reply:
        reply = varied(request, reply) if varies else reply
        return indented(request, reply) if is_indented else reply

    ignores = () if is_encoded else ("encoding-type",)
    with FakeS3(objects, change=change, ignores=ignores) as server:
        found = {
            obj.uri.removeprefix("s3://bucket/"): obj
            for obj in server.storage().scan("s3://bucket/**")
        }

    assert {key: obj.size for key, obj in found.items()} == {k: len(b) for k, b in objects.items()}
    for place, (key, obj) in enumerate(found.items()):
        assert obj.etag == (None if varies and place % 3 == 2 else etag_of(objects[key]))


def test_keys_that_are_no_unicode() -> None:
    """Bytes that are no UTF-8 survive as lone surrogates, with a path of their own."""
    assert listed(FakeS3({"a\udcff": b""})) == ["a\udcff"]


def test_keys_that_are_no_unicode_cannot_be_read() -> None:
    """Botocore has no spelling for them; that is said, and not tried again."""
    with FakeS3({"a\udcff": b""}) as server:
        storage = server.storage()
        (obj,) = storage.scan("s3://bucket/**")

        with pytest.raises(StorageError, match="no Unicode") as caught:
            b"".join(storage.read(obj, 0, 1))
    assert not is_transient(caught.value)


def test_a_server_without_tokens() -> None:
    """Where a page says that more follow but gives no token, the last key does."""

    def change(request: Request, reply: Reply) -> Reply:
        body = re.sub(rb"<NextContinuationToken>.*</NextContinuationToken>", b"", reply.body)
        return replace(reply, body=body)

    with FakeS3({f"k{i}": b"" for i in range(7)}, change=change) as server:
        found = list(server.storage(page_size=3).scan("s3://bucket/**"))

    assert len(found) == 7


def test_a_listing_that_does_not_advance() -> None:
    """A token that repeats itself ends the listing with an error, not never."""
    body = (
        b"<ListBucketResult><IsTruncated>true</IsTruncated>"
        b"<NextContinuationToken>same</NextContinuationToken></ListBucketResult>"
    )
    with FakeS3(answer=Reply(200, body)) as server, pytest.raises(StorageError, match="where"):
        list(server.storage().scan("s3://bucket/**"))


def test_only_the_literal_prefix_is_listed() -> None:
    """The listing begins at the longest literal start; a flat pattern lists no folders."""
    with FakeS3() as server:
        list(server.storage().scan("s3://bucket/a/y=[0-9]/x*.csv"))
        list(server.storage().scan("s3://bucket/a/x*.csv"))
        deep, flat = (request.query for request in server.requests)

    assert (deep["prefix"], deep.get("delimiter")) == ("a/y=", None)
    assert (flat["prefix"], flat.get("delimiter")) == ("a/x", "/")


def test_a_web_page_is_no_listing() -> None:
    """An endpoint that is a web console is recognised."""
    page = Reply(200, b"<html><title>Console</title></html>")
    with FakeS3(answer=page) as server, pytest.raises(StorageError) as caught:
        list(server.storage().scan("s3://bucket/**"))

    assert "endpoint_url" in (caught.value.hint or "")


def test_an_unreadable_time_is_an_error() -> None:
    """Nonsense in a listing is named, and nothing is made up."""
    body = (
        b"<ListBucketResult><Contents><Key>a</Key><LastModified>soon</LastModified>"
        b"<Size>1</Size></Contents></ListBucketResult>"
    )
    with (
        FakeS3(answer=Reply(200, body)) as server,
        pytest.raises(StorageError, match="cannot be read"),
    ):
        list(server.storage().scan("s3://bucket/**"))


@pytest.mark.parametrize(
    ("pattern", "needs"), [("**", "s3:ListBucket`"), ("a", "missing or not permitted")]
)
def test_what_is_denied_is_named(pattern: str, needs: str) -> None:
    """A listing names its permission; a literal cannot tell missing from forbidden."""
    reply = Reply(403, error("AccessDenied"))
    with FakeS3(answer=reply) as server, pytest.raises(AccessDeniedError) as caught:
        list(server.storage().scan(f"s3://bucket/{pattern}"))

    assert needs in str(caught.value)


def test_expired_tokens_say_so_although_head_has_no_body() -> None:
    """The reason that a HEAD cannot give is asked for by a GET."""
    reply = Reply(400, error("ExpiredToken"))
    with FakeS3(answer=reply) as server, pytest.raises(AccessDeniedError) as caught:
        list(server.storage().scan("s3://bucket/a"))

    assert "expired" in str(caught.value)
    assert "aws sso login" in (caught.value.hint or "")


def test_throttled_listings_are_throttled() -> None:
    """503 on a listing is a request to slow down."""
    reply = Reply(503, error("SlowDown"))
    with FakeS3(answer=reply) as server, pytest.raises(ThrottledError):
        list(server.storage().scan("s3://bucket/**"))


def test_a_folder_is_pointed_out() -> None:
    """A literal URI that is a folder says how to name what is in it."""
    with FakeS3({"orders/a.csv": b""}) as server, pytest.raises(ObjectNotFoundError) as caught:
        list(server.storage().scan("s3://bucket/orders"))

    assert "s3://bucket/orders/**" in (caught.value.hint or "")


def test_the_right_region_is_learned() -> None:
    """Asked at the wrong region, the request is signed again for the one that is named."""
    refusal = b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-3</Region></Error>"

    def change(request: Request, reply: Reply) -> Reply:
        is_right = "/eu-west-3/" in request.headers["authorization"]
        return reply if is_right else Reply(400, refusal)

    with FakeS3({"a": b""}, change=change) as server:
        storage = server.storage(region="us-east-1")
        for _ in range(2):
            assert len(list(storage.scan("s3://bucket/**"))) == 1

        assert len(server.requests) == 3


def test_the_servers_clock() -> None:
    """`now` is the server's, and asks nothing once it has answered anything."""
    with FakeS3({"a": b""}) as server:
        storage = server.storage()
        list(storage.scan("s3://bucket/a"))
        now = storage.now()

        assert f"{now:%a, %d %b %Y %H:%M}" == DATE[:22]
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("spelled", "etags"),
    [
        pytest.param(["&quot;a&quot;", "&quot;b-2&quot;"], ["a", "b-2"], id="escaped quotes"),
        pytest.param(['"a"', '"b-2"'], ["a", "b-2"], id="plain quotes"),
        pytest.param(["a", "b-2"], ["a", "b-2"], id="no quotes"),
        pytest.param(["&quot;a&quot;", '"b"', "c"], ["a", "b", "c"], id="each its own"),
        pytest.param(["&quot;a&quot;", "&quot;&quot;"], ["a", None], id="an empty one"),
        pytest.param(["&quot;a&quot;", "b", "&quot;c&quot;"], ["a", "b", "c"], id="one without"),
        pytest.param(['"a"b"', '"c"'], ['a"b', "c"], id="a quote within"),
    ],
)
def test_etags_have_no_quotes_however_they_are_spelled(
    spelled: list[str], etags: list[str | None]
) -> None:
    """What is told of a whole page at once holds for each of its entries."""
    entries = "".join(
        f"<Contents><Key>{i}</Key><LastModified>2024-07-01T12:00:00.000Z</LastModified>"
        f"<ETag>{etag}</ETag><Size>1</Size></Contents>"
        for i, etag in enumerate(spelled)
    )
    page = Reply(200, f"<ListBucketResult>{entries}</ListBucketResult>".encode())
    with FakeS3(answer=page) as server:
        found = list(server.storage().scan("s3://bucket/**"))

    assert [obj.etag for obj in found] == etags


@pytest.mark.parametrize("whole", [0, 1])
def test_a_listing_that_is_cut_short_is_an_error(whole: int) -> None:
    """A key that is not seen would be dropped here as gone."""
    entry = (
        "<Contents><Key>a</Key><LastModified>2024-07-01T12:00:00.000Z</LastModified>"
        "<ETag>e</ETag><Size>1</Size></Contents>"
    )
    text = f"<ListBucketResult>{entry * whole}<Contents><Key>b</Key>"
    with FakeS3(answer=Reply(200, text.encode())) as server:
        storage = server.storage()

        with pytest.raises(IntegrityError, match="cannot be read: no element found"):
            list(storage.scan("s3://bucket/**"))


ENTRY = (
    "<Contents><Key>a/b</Key><LastModified>2024-07-01T12:00:00.000Z</LastModified>"
    "<ETag>e</ETag><Size>1</Size></Contents>"
)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        pytest.param("", "no element found", id="empty"),
        pytest.param(ENTRY.replace("<Key>a/b</Key>", ""), "an entry has no Key", id="no key"),
        pytest.param(ENTRY.replace("<Size>1</Size>", ""), "an entry has no Size", id="no size"),
        pytest.param(ENTRY.replace("<Size>1</Size>", "<Size/>"), "invalid literal", id="void size"),
        pytest.param(ENTRY.replace(">1<", ">-1<"), "a size is -1", id="negative size"),
        pytest.param(ENTRY.replace("LastModified", "Modified"), "no LastModified", id="no time"),
        pytest.param(ENTRY.replace(".000Z", ""), "a time has no zone", id="no zone"),
        pytest.param(ENTRY.replace("a/b", "b/a"), "does not begin with", id="another prefix"),
        pytest.param("<IsTruncated>true</IsTruncated>", "goes on, but not where", id="no token"),
    ],
)
def test_pages_that_cannot_be_used(document: str, said: str) -> None:
    """A listing is whole or an error, and one that is worth asking again."""
    body = f"<ListBucketResult>{document}</ListBucketResult>".encode() if document else b""
    with (
        FakeS3(answer=Reply(200, body)) as server,
        pytest.raises(IntegrityError, match=said) as caught,
    ):
        list(server.storage().scan("s3://bucket/a/**"))

    assert is_transient(caught.value)


def test_an_error_in_place_of_a_page_is_that_error() -> None:
    """S3 may begin to answer well and then fail."""
    with FakeS3(answer=Reply(200, error("SlowDown"))) as server, pytest.raises(ThrottledError):
        list(server.storage().scan("s3://bucket/**"))


def test_tokens_that_go_round_end() -> None:
    """A, B, A, B is no listing."""
    turns = {None: "A", "A": "B", "B": "A"}

    def answer(request: Request) -> Reply:
        token = turns[request.query.get("continuation-token")]
        return Reply(
            200,
            f"<ListBucketResult><IsTruncated>true</IsTruncated>{ENTRY}"
            f"<NextContinuationToken>{token}</NextContinuationToken></ListBucketResult>".encode(),
        )

    with FakeS3(answer=answer) as server:
        with pytest.raises(IntegrityError, match="where"):
            list(server.storage().scan("s3://bucket/a/**"))

        assert len(server.requests) == 3


def test_repeated_keys_are_given_once() -> None:
    """Also where pages overlap."""
    pages = [page_of([("a", b""), ("b", b""), ("b", b"")], token="1")]
    pages.append(page_of([("c", b""), ("a", b""), ("d", b"")]))
    with FakeS3(answer=lambda _: Reply(200, pages.pop(0))) as server:
        found = list(server.storage(page_size=3).scan("s3://bucket/**"))

    assert [obj.relpath for obj in found] == ["a", "b", "c", "d"]


def test_the_users_own_listings_stay_botocores() -> None:
    """What is done to a listing's document is done to ours only."""
    with FakeS3({"k/a": b""}) as server:
        storage = server.storage()
        assert len(list(storage.scan("s3://bucket/k/*"))) == 1

        assert storage.filesystem.ls("bucket/k") == ["bucket/k/a"]


def test_a_redirect_that_leads_nowhere_ends() -> None:
    """A server that answers nothing but 307 is asked a few times, not for ever."""
    elsewhere = {"Location": "http://127.0.0.1:1/"}
    with FakeS3(answer=Reply(307, error("TemporaryRedirect"), elsewhere)) as server:
        with pytest.raises(StorageError, match="another region"):
            list(server.storage().scan("s3://bucket/**"))

        assert len(server.requests) <= 3


def test_control_characters_that_a_server_does_not_encode() -> None:
    """XML forbids them, and some servers send them all the same."""
    keys = ["c\x01", "c\x1f\x08", "plain"]

    assert listed(FakeS3(dict.fromkeys(keys, b""), ignores={"encoding-type"})) == keys
