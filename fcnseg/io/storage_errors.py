"""Translation of what object storages answer, as obstore reports it, into the errors of `fcnseg.errors`.

obstore has few types of errors, and its listings only one: the code in the answer's body tells more. Codes are those of
S3 ("Error responses", Amazon S3 API reference), which Google's XML interface shares, and of Azure's Blob service
("Blob service error codes").
"""

from __future__ import annotations

import os
import re

from fcnseg.errors import (
    CredentialsError,
    NoBucketError,
    NoObjectError,
    ObjectExistsError,
    StorageBusyError,
    StorageDeniedError,
    StorageError,
    UnusableKeyError,
)

EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}

NOT_VALID = {
    "AuthenticationFailed",
    "AuthenticationRequired",
    "InvalidAccessKeyId",
    "InvalidAuthenticationInfo",
    "InvalidSecurity",
    "InvalidToken",
    "NoAuthenticationInformation",
    "SignatureDoesNotMatch",
}

NO_BUCKET = {"NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted", "FilesystemNotFound"}

OTHER_REGION = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}

THROTTLED = {"SlowDown", "ServerBusy", "ServiceUnavailable", "RequestTimeout", "TooManyRequests", "Throttling"}

EXISTS = {"AlreadyExistsError", "PreconditionError"}

_CODE, _WORDS = re.compile(r"<Code>([^<]+)</Code>"), re.compile(r"<Message>([^<]*)</Message>")
_STATUS = re.compile(r"status code: (\d{3})")
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_NO_ANSWER = re.compile(r"error sending request|operation timed out|error decoding response|connection (closed|reset)")
_CAUSE = re.compile(r"dns error|connection refused|timed out|certificate", re.IGNORECASE)
_NO_CREDENTIALS = re.compile(r"169\.254\.|metadata\.google|Missing (Secret)?AccessKey|MissingAccount|Account must be")

VARIABLES = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    "gs": ("GOOGLE_APPLICATION_CREDENTIALS",),
    "az": ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY"),
}
"""The environment variables that give credentials most often, by the start of the URL."""

AGAIN = "run the same command again"


def storage_error(error: Exception, url: str) -> StorageError:
    """Return the error that a failed request for `url` stands for."""
    if isinstance(error, StorageError):
        return error
    text, kind = str(error), type(error).__name__
    url = "".join(character if character.isprintable() else "?" for character in url)
    code = match[1] if (match := _CODE.search(text)) else ""
    status = int(match[1]) if (match := _STATUS.search(text)) else 0
    said = _answer(text, code, status)
    if kind in EXISTS or status in (409, 412):
        return ObjectExistsError(f"{url} exists, or has changed since it was read; {AGAIN}")
    if found := _credentials(text, code, status, url, said):
        return found
    if code in NO_BUCKET:
        return NoBucketError(f"{url} cannot be reached, for there is no such bucket ({said}); check the URL")
    if isinstance(error, FileNotFoundError) or status == 404:
        return NoObjectError(f"{url} does not exist; check the URL")
    if code in OTHER_REGION or "configured region" in text:
        return StorageError(f"{url} is in another region; name it with --storage-option region=REGION or AWS_REGION")
    if "builder error" in text:  # in a URL of its own making: that of the endpoint
        return StorageError(
            f"{url} cannot be asked for: its endpoint is no https:// URL; where http:// is meant, allow it with "
            "--storage-option allow_http=true"
        )
    if status == 403 or kind == "PermissionDeniedError":
        return StorageDeniedError(f"{url} may not be used this way ({said}); check the permissions, then {AGAIN}")
    if code in THROTTLED or status == 429 or status >= 500 or _NO_ANSWER.search(text):
        return StorageBusyError(f"{url} does not answer ({said}); check the network and the endpoint, then {AGAIN}")
    if kind == "InvalidPathError" or isinstance(error, ValueError):
        return UnusableKeyError(f"{url} holds, or is, a key that cannot be used ({said}); rename the object")
    return _local_error(text, url) or StorageError(f"{url} cannot be used: {said}; check the URL and its options")


def _credentials(text: str, code: str, status: int, url: str, said: str) -> CredentialsError | None:
    if code in EXPIRED or (code in NOT_VALID and "expired" in text.lower()):
        return CredentialsError(f"the credentials for {url} have expired ({said}); renew them, then {AGAIN}")
    if code in NOT_VALID or status == 401:
        return CredentialsError(f"the credentials for {url} are not accepted ({said}); check them, then {AGAIN}")
    if _NO_CREDENTIALS.search(text):
        names = " and ".join(VARIABLES.get(url[:2], VARIABLES["az"]))
        return CredentialsError(
            f"there are no credentials for {url}; set {names}, or, where anybody may read, --storage-option "
            "skip_signature=true"
        )
    return None


def _local_error(text: str, url: str) -> StorageError | None:
    if not (match := _OS_ERROR.search(text)):
        return None
    kind = StorageDeniedError if int(match[1]) in (1, 13, 30) else StorageError
    return kind(f"{url} cannot be used: {os.strerror(int(match[1]))}; mend this, then {AGAIN}")


def _answer(text: str, code: str, status: int) -> str:
    """Return in a few words what a storage answered."""
    if code:
        words = match[1].strip() if (match := _WORDS.search(text)) else ""
        return f"{code}: {words}" if words else code
    if cause := _CAUSE.search(text):
        return cause[0].lower()
    if status:
        return f"status {status}"
    return " ".join(text.partition("Debug source")[0].split())[:200].rstrip(".")
