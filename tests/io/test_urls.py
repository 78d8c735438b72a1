"""URLs in parts, and paths that were URLs once."""

from pathlib import Path

import pytest

from fcnseg.errors import SettingsError
from fcnseg.io.urls import is_url, join_url, parse_url, refuse_lost_slash, split_url


@pytest.mark.parametrize(
    "text", ["s3://b/x", "S3://b", "hdfs://x", "abfss://c@a.net/x", "file:///x", "https://x.org/a"]
)
def test_urls_are_told_by_their_scheme(text: str) -> None:
    assert is_url(text)


@pytest.mark.parametrize("text", ["photos", "/a//b", "data.h5::/images", "s3:/b/x", "-", "://x", "1s://x", "a/s3://x"])
def test_paths_are_none(text: str) -> None:
    assert not is_url(text)
    assert not is_url(Path(text))


@pytest.mark.parametrize(
    ("text", "parts", "whole"),
    [
        ("s3://b", ("s3", "b", ""), "s3://b"),
        ("s3://b/", ("s3", "b", ""), "s3://b"),
        ("GS://B/a//b/", ("gs", "B", "a/b"), "gs://B/a/b"),
        ("s3://b/a%20b/c#d?e=1", ("s3", "b", "a%20b/c#d?e=1"), "s3://b/a%20b/c#d?e=1"),
        ("abfss://c@acc.dfs.core.windows.net/x", ("abfss", "c@acc.dfs.core.windows.net", "x"), None),
        ("file:///a%20b/../c", ("file", "", "c"), "file:///c"),
        ("file://localhost/a%20b", ("file", "", "a b"), "file:///a%20b"),
    ],
)
def test_parts_of_urls(text: str, parts: tuple[str, ...], whole: str | None) -> None:
    assert parse_url(text) == parts
    assert str(parse_url(text)) == (whole or text)
    assert parse_url(str(parse_url(text))) == parts


def test_objects_and_where_they_lie() -> None:
    assert split_url("s3://b/a/c.jpg") == ("s3://b/a", "c.jpg")
    assert split_url("s3://b/c.jpg") == ("s3://b", "c.jpg")
    assert split_url("s3://b/") == ("s3://b", "")
    assert join_url("s3://b/", "x/y") == join_url("s3://b", "x/y") == "s3://b/x/y"


@pytest.mark.parametrize("text", ["hdfs://x/y", "s3://", "s3:///x", "file://tmp/x", "https://x.org/a.jpg", "ftp://x"])
def test_urls_of_no_storage_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(SettingsError, match=r"; (give|file)") as caught:
        parse_url(text)
    assert "\n" not in str(caught.value)


def test_a_url_that_became_a_path_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for lost in (Path("s3://b/x"), "gs:/b/x", Path("file:///tmp/x")):
        with pytest.raises(SettingsError, match=r"became a path, which has one slash; give [a-z0-9]+://"):
            refuse_lost_slash(lost)
    for path in ("photos", "a:/b", "/s3:/b", "s3:"):
        refuse_lost_slash(path)
    Path("s3:").mkdir()
    refuse_lost_slash("s3:/b")
