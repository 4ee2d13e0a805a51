"""Listings: every page, every spelling, every server's dialect."""

from dataclasses import dataclass
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import pytest

from datacachalog.errors import (
    AccessDeniedError,
    IntegrityError,
    ObjectNotFoundError,
    StorageError,
    ThrottledError,
)
from datacachalog.sync.retry import is_transient
from tests.storage.s3.scripted import DATE, OneObject, Reply, Request, error, scripted

ETAG = "d41d8cd98f00b204e9800998ecf8427e"


@dataclass
class Lake:
    """An S3 that lists `keys`, in one of the dialects that servers speak."""

    keys: list[str]
    is_encoded: bool = True
    is_indented: bool = False
    has_token: bool = True
    varies: bool = False

    def __call__(self, request: Request) -> Reply:
        """Answer ListObjectsV2."""
        query = request.query
        count = int(query.get("max-keys", 1000))
        start = int(query.get("continuation-token", 0))
        keys = [key for key in self.keys if key.startswith(query["prefix"])]
        if "start-after" in query:
            start = keys.index(query["start-after"]) + 1
        page, is_truncated = keys[start : start + count], len(keys) > start + count
        parts = [f"<IsTruncated>{str(is_truncated).lower()}</IsTruncated>"]
        if self.is_encoded:
            parts.append("<EncodingType>url</EncodingType>")
        parts.extend(self.entry(i, key) for i, key in enumerate(page))
        if is_truncated and self.has_token:
            parts.append(f"<NextContinuationToken>{start + count}</NextContinuationToken>")
        glue = "\n    " if self.is_indented else ""
        text = f"<ListBucketResult>{glue.join(parts)}</ListBucketResult>"
        return Reply(200, text.encode("utf-8", "surrogateescape"))

    def entry(self, index: int, key: str) -> str:
        """Return one entry."""
        name = (
            quote_plus(key.encode("utf-8", "surrogateescape"), safe="/")
            if self.is_encoded
            else escape(key)
        )
        fields = [
            f"<Key>{name}</Key>",
            "<LastModified>2024-02-29T12:34:56.000Z</LastModified>",
            f"<ETag>&quot;{ETAG}&quot;</ETag>",
            "<ChecksumAlgorithm>CRC32</ChecksumAlgorithm>" if index % 2 else "",
            f"<Size>{index}</Size>",
        ]
        if self.varies and index % 3 == 1:
            fields.reverse()
        if self.varies and index % 3 == 2:
            del fields[2]
        glue = "\n    " if self.is_indented else ""
        return f"<Contents>{glue.join(fields)}</Contents>"


def listed(lake: Lake, pattern: str = "**") -> list[str]:
    """Return the keys that a scan finds."""
    with scripted(lake) as server:
        found = list(server.storage().scan(f"s3://bucket/{pattern}"))
    return [obj.uri.removeprefix("s3://bucket/") for obj in found]


@pytest.mark.parametrize(
    ("count", "requests"), [(0, 1), (1, 1), (999, 1), (1000, 1), (1001, 2), (2000, 2), (2001, 3)]
)
def test_every_page_is_read_and_none_twice(count: int, requests: int) -> None:
    """A listing takes as many requests as it has pages, and nothing per key."""
    keys = [f"k/{i:05d}" for i in range(count)]
    with scripted(Lake(keys)) as server:
        found = [obj.relpath for obj in server.storage().scan("s3://bucket/k/*")]

        assert found == [key[2:] for key in keys]
        assert len(server.requests) == requests


ODD = ["a b+c", "a&b<c>\"'", "é/日本", "50%", "k//y", "tab\there", "x/", "../up", "plain"]


@pytest.mark.parametrize("is_indented", [False, True], ids=["compact", "indented"])
@pytest.mark.parametrize("varies", [False, True], ids=["uniform", "varying"])
@pytest.mark.parametrize("is_encoded", [True, False], ids=["url-encoded", "raw"])
def test_dialects(is_encoded: bool, varies: bool, is_indented: bool) -> None:
    """Encoded or raw keys, fields in any order or absent, with or without white space."""
    lake = Lake(ODD, is_encoded=is_encoded, varies=varies, is_indented=is_indented)
    with scripted(lake) as server:
        found = {
            obj.uri.removeprefix("s3://bucket/"): obj
            for obj in server.storage().scan("s3://bucket/**")
        }

    assert [(key, obj.size) for key, obj in found.items()] == [
        (key, i) for i, key in enumerate(ODD)
    ]
    assert {obj.etag for obj in found.values()} == {ETAG, None} if varies else {ETAG}


def test_keys_that_are_no_unicode() -> None:
    """Bytes that are no UTF-8 survive as lone surrogates, with a path of their own."""
    lake = Lake(["a\udcff"])

    assert listed(lake) == ["a\udcff"]


def test_keys_that_are_no_unicode_cannot_be_read() -> None:
    """Botocore has no spelling for them; that is said, and not tried again."""
    with scripted(Lake(["a\udcff"])) as server:
        storage = server.storage()
        (obj,) = storage.scan("s3://bucket/**")

        with pytest.raises(StorageError, match="no Unicode") as caught:
            b"".join(storage.read(obj, 0, 1))
    assert not is_transient(caught.value)


def test_a_server_without_tokens() -> None:
    """Where a page says that more follow but gives no token, the last key does."""
    lake = Lake([f"k{i}" for i in range(7)], has_token=False)
    with scripted(lake) as server:
        found = list(server.storage(page_size=3).scan("s3://bucket/**"))

    assert len(found) == 7


def test_a_listing_that_does_not_advance() -> None:
    """A token that repeats itself ends the listing with an error, not never."""
    body = (
        b"<ListBucketResult><IsTruncated>true</IsTruncated>"
        b"<NextContinuationToken>same</NextContinuationToken></ListBucketResult>"
    )
    with scripted(lambda _: Reply(200, body)) as server, pytest.raises(StorageError, match="where"):
        list(server.storage().scan("s3://bucket/**"))


def test_only_the_literal_prefix_is_listed() -> None:
    """The listing begins at the longest literal start; a flat pattern lists no folders."""
    with scripted(Lake([])) as server:
        list(server.storage().scan("s3://bucket/a/y=[0-9]/x*.csv"))
        list(server.storage().scan("s3://bucket/a/x*.csv"))
        deep, flat = (request.query for request in server.requests)

    assert (deep["prefix"], deep.get("delimiter")) == ("a/y=", None)
    assert (flat["prefix"], flat.get("delimiter")) == ("a/x", "/")


def test_a_web_page_is_no_listing() -> None:
    """An endpoint that is a web console is recognised."""
    page = Reply(200, b"<html><title>Console</title></html>")
    with scripted(lambda _: page) as server, pytest.raises(StorageError) as caught:
        list(server.storage().scan("s3://bucket/**"))

    assert "endpoint_url" in (caught.value.hint or "")


def test_an_unreadable_time_is_an_error() -> None:
    """Nonsense in a listing is named, and nothing is made up."""
    body = (
        b"<ListBucketResult><Contents><Key>a</Key><LastModified>soon</LastModified>"
        b"<Size>1</Size></Contents></ListBucketResult>"
    )
    with (
        scripted(lambda _: Reply(200, body)) as server,
        pytest.raises(StorageError, match="cannot be read"),
    ):
        list(server.storage().scan("s3://bucket/**"))


@pytest.mark.parametrize(
    ("pattern", "needs"), [("**", "s3:ListBucket`"), ("a", "missing or not permitted")]
)
def test_what_is_denied_is_named(pattern: str, needs: str) -> None:
    """A listing names its permission; a literal cannot tell missing from forbidden."""
    reply = Reply(403, error("AccessDenied"))
    with scripted(lambda _: reply) as server, pytest.raises(AccessDeniedError) as caught:
        list(server.storage().scan(f"s3://bucket/{pattern}"))

    assert needs in str(caught.value)


def test_expired_tokens_say_so_although_head_has_no_body() -> None:
    """The reason that a HEAD cannot give is asked for by a GET."""
    reply = Reply(400, error("ExpiredToken"))
    with scripted(lambda _: reply) as server, pytest.raises(AccessDeniedError) as caught:
        list(server.storage().scan("s3://bucket/a"))

    assert "expired" in str(caught.value)
    assert "aws sso login" in (caught.value.hint or "")


def test_throttled_listings_are_throttled() -> None:
    """503 on a listing is a request to slow down."""
    reply = Reply(503, error("SlowDown"))
    with scripted(lambda _: reply) as server, pytest.raises(ThrottledError):
        list(server.storage().scan("s3://bucket/**"))


def test_a_folder_is_pointed_out() -> None:
    """A literal URI that is a folder says how to name what is in it."""
    lake = Lake(["orders/a.csv"])
    with (
        scripted(lambda r: Reply(404) if r.method == "HEAD" else lake(r)) as server,
        pytest.raises(ObjectNotFoundError) as caught,
    ):
        list(server.storage().scan("s3://bucket/orders"))

    assert "s3://bucket/orders/**" in (caught.value.hint or "")


def test_the_right_region_is_learned() -> None:
    """Asked at the wrong region, the request is signed again for the one that is named."""

    def answer(request: Request) -> Reply:
        if "/eu-west-3/" not in request.headers["authorization"]:
            return Reply(
                400,
                b"<Error><Code>AuthorizationHeaderMalformed</Code>"
                b"<Region>eu-west-3</Region></Error>",
            )
        return Lake(["a"])(request)  # fmt: skip

    with scripted(answer) as server:
        storage = server.storage(region="us-east-1")
        for _ in range(2):
            assert len(list(storage.scan("s3://bucket/**"))) == 1

        assert len(server.requests) == 3


def test_the_servers_clock() -> None:
    """`now` is the server's, and asks nothing once it has answered anything."""
    with scripted(OneObject()) as server:
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
    with scripted(lambda request: page) as server:
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
    with scripted(lambda request: Reply(200, text.encode())) as server:
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
        scripted(lambda _: Reply(200, body)) as server,
        pytest.raises(IntegrityError, match=said) as caught,
    ):
        list(server.storage().scan("s3://bucket/a/**"))

    assert is_transient(caught.value)


def test_an_error_in_place_of_a_page_is_that_error() -> None:
    """S3 may begin to answer well and then fail."""
    with scripted(lambda _: Reply(200, error("SlowDown"))) as server, pytest.raises(ThrottledError):
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

    with scripted(answer) as server:
        with pytest.raises(IntegrityError, match="where"):
            list(server.storage().scan("s3://bucket/a/**"))

        assert len(server.requests) == 3


def test_repeated_keys_are_given_once() -> None:
    """Also where pages overlap."""
    keys = ["a", "b", "b", "c", "a", "d"]
    with scripted(Lake(keys)) as server:
        found = list(server.storage(page_size=3).scan("s3://bucket/**"))

    assert [obj.relpath for obj in found] == ["a", "b", "c", "d"]


def test_the_users_own_listings_stay_botocores() -> None:
    """What is done to a listing's document is done to ours only."""
    with scripted(Lake(["k/a"])) as server:
        storage = server.storage()
        assert len(list(storage.scan("s3://bucket/k/*"))) == 1

        assert storage.filesystem.ls("bucket/k") == ["bucket/k/a"]


def test_a_redirect_that_leads_nowhere_ends() -> None:
    """A server that answers nothing but 307 is asked a few times, not for ever."""
    elsewhere = {"Location": "http://127.0.0.1:1/"}
    with scripted(lambda _: Reply(307, error("TemporaryRedirect"), elsewhere)) as server:
        with pytest.raises(StorageError, match="another region"):
            list(server.storage().scan("s3://bucket/**"))

        assert len(server.requests) <= 3


def test_control_characters_that_a_server_does_not_encode() -> None:
    """XML forbids them, and some servers send them all the same."""
    keys = ["c\x01", "c\x1f\x08", "plain"]

    assert listed(Lake(keys, is_encoded=False)) == keys
