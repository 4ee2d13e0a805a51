"""Reading YAML and TOML: values, places, and what is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacachalog.spec.yaml import (
    MAX_BYTES,
    Document,
    DocumentError,
    Fault,
    Listing,
    Place,
    Table,
    decode,
    read_scalar,
    read_toml,
    read_yaml,
)


def fault_of(text: str) -> tuple[str, Place | None, str | None]:
    """Return message, place and hint of the fault that keeps the YAML from being read."""
    with pytest.raises(DocumentError) as caught:
        read_yaml(text)
    fault = caught.value.fault
    return fault.message, fault.place, fault.hint


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("0755", "0755"),
        ("1:30", "1:30"),
        ("2024-12-10", "2024-12-10"),
        ("2024-01-15 10:00:00", "2024-01-15 10:00:00"),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("12", 12),
        ("-3", -3),
        ("0", 0),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        (".inf", float("inf")),
        ("-", "-"),
        (".", "."),
        ("+", "+"),
        ("1.2.3", "1.2.3"),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    """What YAML 1.1 would turn into something else stays text."""
    read = read_scalar(text)

    assert (read, type(read)) == (value, type(value))


def test_quoted_scalars_and_keys_are_text() -> None:
    """Quotes make text, and a key is always text."""
    assert read_yaml("'a': \"12\"\n2024: x\nnull: y\n").value == {
        "a": "12",
        "2024": "x",
        "null": "y",
    }


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(st.characters(max_codepoint=0xFFFF, codec="utf-8")),
        lambda inner: st.lists(inner) | st.dictionaries(st.text("abc", min_size=1), inner),
        max_leaves=20,
    )
)
def test_json_is_read_as_it_is(value: object) -> None:
    """YAML 1.2 holds JSON: what was written comes back, of the same type."""
    text = json.dumps({"value": value})

    assert repr(read_yaml(text).value) == repr({"value": value})


def test_every_key_and_value_knows_its_place() -> None:
    """Lines and columns count from 1."""
    read = read_yaml("a: 1\nb:\n  - x\n  - {c: y}\n").value
    assert isinstance(read, Table)
    listing = read["b"]
    assert isinstance(listing, Listing)

    assert read.keys_at == {"a": Place(1, 1), "b": Place(2, 1)}
    assert read.values_at["a"] == Place(1, 4)
    assert listing.items_at == [Place(3, 5), Place(4, 5)]


def test_equal_keys_are_a_fault_that_names_both_lines() -> None:
    """The first is kept, and the second reported."""
    read = read_yaml("a: 1\nb: 2\n'a': 3\n")
    (fault,) = read.faults

    assert read.value == {"a": 1, "b": 2}
    assert fault.message == "the key 'a' is given twice, first in line 1"
    assert fault.place == Place(3, 1)


def test_merge_keys_are_a_fault() -> None:
    """`<<` is refused with what to do in its place; in quotes it is a key like any other."""
    read = read_yaml("a: &a {x: 1}\nb: {<<: *a}\n")
    (fault,) = read.faults

    assert (fault.message, fault.place) == ("merge keys (`<<`) are not supported", Place(2, 5))
    assert fault.hint == "say it once under `defaults:`, or write it out"
    assert not read_yaml("'<<': 1").faults


def test_a_merge_bomb_does_no_harm() -> None:
    """400 bytes that would keep a merging reader busy for seconds are a list of faults."""
    lines = ["a0: &a0 {k0: 0}"]
    lines += [f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}], k{i}: 0}}" for i in range(1, 13)]
    text = "\n".join(lines)

    assert len(text) < 450
    assert len(read_yaml(text).faults) == 12


def test_an_alias_bomb_is_refused() -> None:
    """Aliases of aliases are counted as what they stand for."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]

    message, place, _ = fault_of("\n".join(lines))

    assert message == "aliases make this more than 1,000,000 values"
    assert place is not None
    assert place.line == 6


def test_an_alias_is_the_value_it_names() -> None:
    """Aliases within bounds work."""
    assert read_yaml("a: &t [x]\nb: *t\nc: &s 1\nd: *s").value == {
        "a": ["x"],
        "b": ["x"],
        "c": 1,
        "d": 1,
    }


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "a: ["], ids=repr)
def test_deep_nesting_is_refused(opening: str) -> None:
    """No depth ends the process."""
    with pytest.raises(DocumentError):
        read_yaml(opening * 100_000)


def test_the_deepest_allowed_nesting_is_read() -> None:
    """The limit is on the safe side of any real catalog."""
    assert read_yaml("[" * 60 + "]" * 60).value


@pytest.mark.parametrize(
    ("text", "message", "place", "hint"),
    [
        ("a:\n\tb: 1", "a tab stands where only spaces can", (2, 1), "indent with spaces"),
        ("a: [1, 2\nb: 3", "a `[` is not closed", (1, 4), "add the missing `]` or `,`"),
        ("a: {b: 1\nc: 3", "a `{` is not closed", (1, 4), "add the missing `}` or `,`"),
        (
            "a: {b: ${X}}",
            "a `{` is not closed",
            (1, 4),
            'between `{` and `}`, put references in quotes: `"${VAR}"`',
        ),
        ("a: 'x\nb: y", "a quoted text is not closed", (1, 4), "add the missing quote"),
        ("a: @x", "no value can begin with `@`", (1, 4), "put the value in quotes"),
        (
            "a: b: c",
            "this line holds a `: ` where no key can be",
            (1, 5),
            "check the indentation, or put the value in quotes",
        ),
        (
            "a:\n  b: 1\n c: 2",
            "the indentation fits no line above",
            (3, 2),
            "indent keys of one level alike, and quote values with special characters",
        ),
        (
            'a: "\\q"',
            "an unknown `\\` escape in double quotes",
            (1, 5),
            "use single quotes, or write `\\\\`",
        ),
        ("a: {{ x }}", "a key must be plain text", (1, 5), "quote what begins with `{` or `[`"),
        ("a: 1\n---\nb: 2", "a second document begins here", (2, 1), "remove this `---`"),
        (
            "a: *b",
            "`*b` refers to nothing above it",
            (1, 4),
            'quote it if it is text: `"*b"`',
        ),
        ("a: &b [*b]", "`*b` holds itself", (1, 8), "write it out"),
        (
            "a: \x07",
            "the character U+0007 is not allowed in YAML",
            (1, 4),
            'remove it, or write it as an escape in double quotes, such as "\\x07"',
        ),
    ],
)
def test_broken_yaml_is_one_sentence_with_its_place(
    text: str, message: str, place: tuple[int, int], hint: str
) -> None:
    """A slip is named in plain words, where it is, with what to do."""
    assert fault_of(text) == (message, Place(*place), hint)


def test_tags_are_a_fault() -> None:
    """No tag makes objects, or anything else."""
    (fault,) = read_yaml("a: !!python/object:os.system x").faults

    assert fault.message == "tags such as `!!python/object:os.system` are not supported"


def outcome(text: str) -> Document | Fault:
    """Return the document, or the fault that keeps it from being read."""
    try:
        return read_yaml(text)
    except DocumentError as exc:
        return exc.fault


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing but a `DocumentError` comes out of any text."""
    assert isinstance(outcome(text), Document | Fault)


@given(st.text("[]{}:,-&*!|>'\"#? \n\tab<", max_size=40))
def test_any_yaml_like_text_is_read_or_refused(text: str) -> None:
    """The same for texts that are nearly YAML."""
    assert isinstance(outcome(text), Document | Fault)


@pytest.mark.parametrize(
    ("data", "message", "place"),
    [
        (b"a: 1\nb: \xff", "the byte 0xff is not UTF-8", Place(2, 4)),
        ("a: 1".encode("utf-16"), "the file is UTF-16, not UTF-8", None),
        (b" " * (MAX_BYTES + 1), "the file is larger than 4 MB", None),
    ],
    ids=["latin-1", "utf-16", "large"],
)
def test_bytes_that_are_no_catalog_are_refused(
    data: bytes, message: str, place: Place | None
) -> None:
    """Wrong encodings and sizes are told before anything is read."""
    with pytest.raises(DocumentError) as caught:
        decode(data)

    assert (caught.value.fault.message, caught.value.fault.place) == (message, place)


def test_a_byte_order_mark_and_windows_line_ends_are_no_matter() -> None:
    """Editors on other systems write both."""
    assert decode(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n") == "a: 1\nb: 2\n"


# --- TOML ---------------------------------------------------------------------------


def test_toml_keys_know_their_places() -> None:
    """Keys at the start of a line, dotted and quoted ones too, have theirs."""
    read = read_toml('[datasets.x]\nsource = "a"\n["datasets"."y z"]\n  tags.a = 1\n').value
    assert isinstance(read, Table)
    datasets = read["datasets"]
    assert isinstance(datasets, Table)
    x = datasets["x"]
    assert isinstance(x, Table)

    assert datasets.keys_at == {"x": Place(1, 2), "y z": Place(3, 2)}
    assert (x.keys_at["source"], x.values_at["source"]) == (Place(2, 1), Place(2, 10))


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("2024-12-10", "2024-12-10"),
        ("2024-12-10T09:30:05Z", "2024-12-10T09:30:05Z"),
        ("2024-12-10T09:30:05.865Z", "2024-12-10T09:30:05.865Z"),
        ("2024-12-10T09:30:05.865123+02:00", "2024-12-10T09:30:05.865123+02:00"),
        ("2024-12-10T09:30:05", "2024-12-10T09:30:05"),
    ],
)
def test_toml_dates_are_text_as_in_yaml(written: str, text: str) -> None:
    """One parser decides what a date means, whichever file it stands in."""
    assert read_toml(f"as_of = {written}").value == {"as_of": text}


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        ("a = 1\nb = \n", "this is not TOML: invalid value", Place(2, 5)),
        ("a = 1\na = 2\n", "this is not TOML: cannot overwrite a value", Place(2, 6)),
    ],
)
def test_broken_toml_has_its_place(text: str, message: str, place: Place) -> None:
    """What the parser says, and where."""
    with pytest.raises(DocumentError) as caught:
        read_toml(text)

    assert (caught.value.fault.message, caught.value.fault.place) == (message, place)


def test_deep_toml_is_refused() -> None:
    """No depth ends the process here either."""
    with pytest.raises(DocumentError):
        read_toml("a = " + "[" * 5000 + "]" * 5000)
