"""Buckets: one contract for local folders and a real S3 server, and what every fault of a storage becomes."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fcnseg.errors import (
    CredentialsError,
    NoBucketError,
    NoObjectError,
    ObjectExistsError,
    SettingsError,
    StorageBusyError,
    StorageDeniedError,
    StorageError,
    UnusableKeyError,
)
from fcnseg.io.buckets import VARIABLES, Bucket, open_store, parse_storage_options, shown_options
from tests.storage_servers import FaultyProxy, moto_server, options_of

pytest.importorskip("obstore")


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with moto_server() as endpoint:
        yield endpoint


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(VARIABLES)]:
        monkeypatch.delenv(name)


@pytest.fixture(params=["folder", "file URL", pytest.param("S3", marks=pytest.mark.slow)])
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> Bucket:
    if request.param == "folder":
        return open_store(tmp_path / "not yet # there%20")
    if request.param == "file URL":
        return open_store((tmp_path / "a b").as_uri())
    options = options_of(request.getfixturevalue("moto"))
    return open_store(f"s3://bucket/{tmp_path.name}/a%20b#c", options)


def test_objects_come_back(bucket: Bucket) -> None:
    content = bytes(range(256)) * 10
    etag = bucket.put("x/a b%20é#?.png", content)
    bucket.put("x/empty", b"")
    bucket.put("xy", memoryview(content))
    assert bucket.get("x/a b%20é#?.png") == content
    assert bucket.get_range("xy", 300, 5) == content[300:305]
    assert bucket.head("x/a b%20é#?.png").etag == etag
    assert {info.key: info.size for info in bucket.list()} == {"x/a b%20é#?.png": 2560, "x/empty": 0, "xy": 2560}
    assert {info.key for info in bucket.list("x")} == {"x/a b%20é#?.png", "x/empty"}
    bucket.delete("xy")
    bucket.delete("xy")
    assert [info.key for info in pickle.loads(pickle.dumps(bucket)).list("xy")] == []


def test_the_fingerprint_is_that_of_the_content(bucket: Bucket) -> None:
    bucket.put("one", b"same size")
    before = bucket.head("one").fingerprint
    assert before == next(iter(bucket.list())).fingerprint
    bucket.put("one", b"SAME SIZE")
    assert bucket.head("one").fingerprint != before


def test_what_is_not_there_is_said(bucket: Bucket) -> None:
    assert list(bucket.list()) == []
    for request in (bucket.get, bucket.head, lambda key: bucket.get_range(key, 0, 1)):
        with pytest.raises(NoObjectError, match="none does not exist"):
            request("none")


def test_one_of_many_creates(bucket: Bucket) -> None:
    def create(number: int) -> bool:
        try:
            bucket.put("one", b"%d" % number, create_only=True)
        except ObjectExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = [number for number, created in enumerate(pool.map(create, range(8))) if created]
    assert len(won) == 1
    assert bucket.get("one") == b"%d" % won[0]


def test_one_of_many_replaces(bucket: Bucket) -> None:
    etag = bucket.put("one", b"first")

    def replace(number: int) -> bool:
        try:
            bucket.put("one", b"%d" % number, replaces=etag)
        except ObjectExistsError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        won = [number for number, replaced in enumerate(pool.map(replace, range(4))) if replaced]
    assert len(won) == 1
    assert bucket.get("one") == b"%d" % won[0]


def test_keys_that_cannot_be_are_one_line(bucket: Bucket) -> None:
    for key in ("a\nb", "a//b", "a/./b"):
        with pytest.raises(UnusableKeyError) as caught:
            bucket.put(key, b"x")
        assert "\n" not in str(caught.value)


REQUESTS: dict[str, Callable[[Bucket], object]] = {
    "get": lambda bucket: bucket.get("k"),
    "get_range": lambda bucket: bucket.get_range("k", 0, 1),
    "head": lambda bucket: bucket.head("k"),
    "put": lambda bucket: bucket.put("k", b"x"),
    "create": lambda bucket: bucket.put("k", b"x", create_only=True),
    "list": lambda bucket: list(bucket.list()),
    "delete": lambda bucket: bucket.delete("k"),
}


@pytest.mark.parametrize("request_name", REQUESTS)
@pytest.mark.parametrize(
    ("status", "code", "kind", "words"),
    [
        (503, "SlowDown", StorageBusyError, "does not answer"),
        (500, "InternalError", StorageBusyError, "does not answer"),
        (429, "TooManyRequests", StorageBusyError, "does not answer"),
        (400, "ExpiredToken", CredentialsError, "have expired.*renew them"),
        (403, "ExpiredToken", CredentialsError, "have expired.*renew them"),
        (403, "InvalidAccessKeyId", CredentialsError, "not accepted"),
        (401, "AuthenticationRequired", CredentialsError, "not accepted"),
        (403, "AccessDenied", StorageDeniedError, "AccessDenied.*permissions"),
        (404, "NoSuchBucket", NoBucketError, "no such bucket"),
        (301, "PermanentRedirect", StorageError, "another region"),
        (400, "Weird", StorageError, "Weird: so"),
    ],
)
def test_each_fault_has_its_error(
    request_name: str, status: int, code: str, kind: type[StorageError], words: str
) -> None:
    proxy = FaultyProxy()
    proxy.fault_of = lambda method, path: (status, code)
    with proxy.served() as endpoint:
        bucket = open_store("s3://bucket/x", options_of(endpoint, max_retries="1"))
        with pytest.raises(kind, match=words) as caught:
            REQUESTS[request_name](bucket)
    assert caught.value.transient == (kind is StorageBusyError)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (503, "ServerBusy", StorageBusyError),
        (401, "AuthenticationRequired", CredentialsError),
        (403, "AccessDenied", StorageDeniedError),
        (404, "NoSuchBucket", NoBucketError),
        (404, "ContainerNotFound", NoBucketError),
        (409, "BlobAlreadyExists", ObjectExistsError),
    ],
)
def test_faults_of_other_storages(status: int, code: str, kind: type[StorageError]) -> None:
    proxy = FaultyProxy()
    proxy.fault_of = lambda method, path: (status, code)
    common = {"allow_http": "true", "max_retries": "1", "skip_signature": "true"}
    with proxy.served() as endpoint:
        google = {**common, "base_url": endpoint, "bearer_token": "token"}
        azure = {**common, "endpoint": endpoint, "account_name": "account"}
        for url, options in (("gs://bucket/x", google), ("az://container/x", azure)):
            with pytest.raises(kind):
                open_store(url, options).put("k", b"x", create_only=True)


def test_servers_that_answer_ranges_with_the_whole_are_understood() -> None:
    proxy = FaultyProxy()
    proxy.content = b"0123456789"
    with proxy.served() as endpoint:
        bucket = open_store("s3://bucket/x", options_of(endpoint))
        assert bucket.get_range("k", 0, 10) == proxy.content
        assert bucket.get_range("k", 3, 4) == b"3456"


def test_faults_that_pass_are_waited_out() -> None:
    proxy = FaultyProxy()
    proxy.fault_of = lambda method, path: (503, "SlowDown") if len(proxy.requests) < 3 else None
    with proxy.served() as endpoint:
        open_store("s3://bucket/x", options_of(endpoint)).put("k", b"x")
    assert len(proxy.requests) == 3


def test_a_server_that_is_not_there_is_one_line() -> None:
    with FaultyProxy().served() as endpoint:
        pass
    bucket = open_store("s3://bucket/x", options_of(endpoint, max_retries="0"))
    with pytest.raises(StorageBusyError, match="connection refused"):
        bucket.get("k")


def test_plain_http_is_allowed_by_the_environment_and_by_the_option_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultyProxy().served() as endpoint:
        options = options_of(endpoint, timeout="20s")
        options.pop("allow_http")
        with pytest.raises(StorageError, match="--storage-option allow_http=true"):
            open_store("s3://bucket/x", options).put("k", b"x")
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        open_store("s3://bucket/x", options).put("k", b"x")


def test_folders_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"Not a directory|File exists"):
        open_store(tmp_path / "file").put("x", b"1")


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("s3://b/x", {"nonsense": "1"}),
        ("s3://b/x", {"timeout": "never"}),
        ("s3://b/x", {"retry_timeout": "never"}),
        ("s3://b/x", {"access_key_id": "alone"}),
        ("hdfs://b/x", {}),
    ],
)
def test_options_that_cannot_be_are_refused_at_once(url: str, options: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as caught:
        open_store(url, options)
    assert "\n" not in str(caught.value)


def test_options_are_pairs() -> None:
    assert parse_storage_options(["Region=eu", "token=a=b"]) == {"region": "eu", "token": "a=b"}
    with pytest.raises(SettingsError, match="is no KEY=VALUE"):
        parse_storage_options(["region"])


def test_secrets_are_not_shown() -> None:
    options = options_of("http://localhost:1", session_token="hidden-token")
    assert "secret" not in repr(Bucket("s3://b", options))
    assert shown_options(options)["endpoint"] == "http://localhost:1"
    assert not {"secret", "hidden-token", "user"} & set(shown_options(options).values())


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("gs://bucket/x", {}),
        ("az://container/x", {"account_name": "acc", "account_key": "a2V5"}),
        ("abfss://container@acc.dfs.core.windows.net/x", {"account_key": "a2V5"}),
    ],
)
def test_other_storages_can_be_named(url: str, options: dict[str, str]) -> None:
    assert open_store(url, {**options, "skip_signature": "true"}).url == url
