"""Keys as relative paths: safe, injective, and apart from one another."""

import itertools
import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from datacachalog.relpath import MAX_SEGMENT, disambiguate, encode, encode_all

KEYS = st.text(
    alphabet=st.one_of(
        st.sampled_from("a~/.\\70EF\n\x00\x7f\x85\u2028\u202eé\ud800"), st.characters()
    ),
    min_size=1,
    max_size=20,
)
FORBIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\\\\\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def decode(relpath: str) -> str:
    """Undo `encode` for paths without shortened segments."""
    out = bytearray()
    for escape, char in re.findall(r"~([0-9A-F]{2})|(.)", relpath, re.DOTALL):
        out += bytes.fromhex(escape) if escape else char.encode()
    return out.decode("utf-8", "surrogatepass")


@given(key=KEYS)
@example("~/")
@example("~7E")
@example("~~")
@example("a~\n")
@example("~2F/..//.")
def test_encoding_can_be_undone(key: str) -> None:
    """What has an inverse is injective: no two keys share a path."""
    assert decode(encode(key)) == key


@given(key=KEYS)
def test_encoded_paths_stay_inside_and_show_nothing_odd(key: str) -> None:
    """No segment is empty, a dot or two dots; nothing that a terminal or disk minds is left."""
    path = encode(key)

    assert not FORBIDDEN.search(path)
    assert not {"", ".", ".."} & set(path.split("/"))
    assert "~~" not in path


@pytest.mark.parametrize(
    "key",
    [
        "ts=2024-01-01 00%3A00%3A00/part-0.parquet",
        "a:b/c=d/~user/x~1.csv",
        "größe/日本.csv",
        ".hidden/..twodots/...",
        "a" * 255,
        "~7e",
    ],
)
def test_ordinary_keys_are_untouched(key: str) -> None:
    """Percent signs, colons, equals signs, spaces and letters of any script stay."""
    assert encode(key) == key


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("/lead", "~2Flead"),
        ("a//b", "a/~2Fb"),
        ("dir/", "dir~2F"),
        ("../up", "~2E./up"),
        ("a/./b", "a/~2E/b"),
        ("a\\b", "a~5Cb"),
        ("tab\there", "tab~09here"),
        ("~0A", "~7E0A"),
        ("\u202egnp.exe", "~E2~80~AEgnp.exe"),
    ],
)
def test_odd_keys(key: str, path: str) -> None:
    """Each odd character becomes the bytes of its UTF-8, in hex."""
    assert encode(key) == path


@given(keys=st.lists(KEYS | st.sampled_from(["ab/cd", "/a", "a/", ".a", "a" * 256])))
@example(["a", "/b"])
@example(["a/", "b"])
@example(["a", ".", "b"])
def test_many_are_encoded_as_each_is(keys: list[str]) -> None:
    """What is told of all together holds for every one."""
    assert encode_all(keys) == [encode(key) for key in keys]


def test_an_empty_key_part_is_refused() -> None:
    """There is no path to give for nothing."""
    with pytest.raises(ValueError, match="empty"):
        encode("")


@pytest.mark.parametrize("char", ["a", "é", "日", "\n", "𝄞"])
@pytest.mark.parametrize("length", [250, 256, 257, 300, 1024])
def test_long_segments_fit_and_stay_apart(char: str, length: int) -> None:
    """A long name keeps its suffix and fits; another last character makes another path."""
    first, second = encode(f"x/{char * length}1.csv"), encode(f"x/{char * length}2.csv")

    assert first != second
    assert first.endswith(".csv")
    assert all(len(name.encode()) <= MAX_SEGMENT for name in first.split("/"))
    assert first.encode().decode() == first


def test_a_shortened_name_cannot_be_written_as_a_key() -> None:
    """The `~~` of a shortened name never comes out of a short key."""
    shortened = encode("a" * 300)

    assert encode(shortened) != shortened


# --- disambiguate ----------------------------------------------------------------------


def fold(path: str) -> str:
    """Return the name that a case-insensitive, normalising disk sees."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())


SMALL_PATHS = st.lists(
    st.lists(st.text(alphabet="aAéE\u0301\n~ßs", min_size=1, max_size=3), min_size=1, max_size=3)
    .map("/".join)
    .map(encode),
    max_size=12,
    unique=True,
)


@given(paths=SMALL_PATHS)
def test_disambiguated_paths_fit_side_by_side(paths: list[str]) -> None:
    """Afterwards no two names meet on any disk, and no file is also a folder."""
    names = [fold(path) for path in disambiguate(paths)]
    folders = {name[: found.start()] for name in names for found in re.finditer("/", name)}

    assert len(set(names)) == len(names)
    assert not folders & set(names)


@given(paths=SMALL_PATHS, data=st.data())
def test_disambiguation_depends_on_the_set_alone(paths: list[str], data: st.DataObject) -> None:
    """Another order of the same paths gives each the same name."""
    shuffled = data.draw(st.permutations(paths))

    assert dict(zip(paths, disambiguate(paths), strict=True)) == dict(
        zip(shuffled, disambiguate(shuffled), strict=True)
    )


@given(paths=SMALL_PATHS)
def test_only_what_meets_is_renamed(paths: list[str]) -> None:
    """A path whose folded name is alone, and no folder, keeps its name."""
    names = [fold(path) for path in paths]
    folders = {name[: found.start()] for name in names for found in re.finditer("/", name)}
    for path, name, result in zip(paths, names, disambiguate(paths), strict=True):
        if names.count(name) == 1 and name not in folders:
            assert result == path


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        pytest.param(["a", "a/b"], ["~61", "a/b"], id="file beside folder"),
        pytest.param(["x/a/b", "x/a"], ["x/a/b", "x/~61"], id="file beside folder, deeper"),
        pytest.param(["A", "a/b"], ["~41", "a/b"], id="file beside folder of another case"),
        pytest.param(["readme", "README"], ["~72eadme", "README"], id="case twins"),
        pytest.param(["D/x", "d/x"], ["D/x", "d/~78"], id="twins by their folder"),
        pytest.param(["\u00e9", "e\u0301"], ["~C3~A9", "e\u0301"], id="normal forms"),
        pytest.param(["~0A", "~0A/x"], None, id="nothing left to escape"),
    ],
)
def test_disambiguate_by_example(paths: list[str], expected: list[str] | None) -> None:
    """The first in code point order keeps its name; a file gives way to a folder."""
    result = disambiguate(paths)

    assert result == expected or (expected is None and result[1] == paths[1] and "~~" in result[0])


def test_all_spellings_of_one_name_stay_apart() -> None:
    """All spellings of one name, at once, get names of their own."""
    paths = [
        "".join(letters) for letters in itertools.product(*zip("abcdefgh", "ABCDEFGH", strict=True))
    ]

    assert len({fold(path) for path in disambiguate(paths)}) == 256
