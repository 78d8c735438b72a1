"""URLs without what may be secret: users and passwords, folders of paths, values of queries (tokens, signatures).

What is shown is the host, by which one knows the server, and the file's name.
"""

from __future__ import annotations

from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from fcnseg.toml_table import printable

MASK = "***"

SHORTEST_SECRET = 8
"""Shorter names of folders are left in messages of libraries, whose words they may be."""


def split_address(url: str) -> SplitResult | None:
    """Return the parts of an http or https URL; None for anything else."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises ValueError: what stands there may be half a password
    except ValueError:
        return None
    return parts if parts.scheme in ("http", "https") and parts.hostname else None


def masked(url: str) -> str:
    """Return a URL as it may be shown or recorded."""
    parts = split_address(url)
    if parts is None:
        return "the address"
    user, _, host = parts.netloc.rpartition("@")
    values = [f"{field.partition('=')[0]}={MASK}" if "=" in field else MASK for field in parts.query.split("&")]
    folders, _, name = parts.path.rpartition("/")
    shown = parts._replace(
        path=f"/{MASK}/{name}" if folders.strip("/") else parts.path,
        netloc=f"{MASK}@{host}" if user else host,
        query="&".join(values) if parts.query else "",
        fragment="",
    )
    return printable(shown.geturl())


def without_secrets(text: str, url: str) -> str:
    """Return a message about a URL, perhaps of a library, with the URL's secrets masked."""
    parts = split_address(url)
    if parts is None:
        return text.replace(url, "the address") if url else text
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    fields = parts.query.split("&")
    secrets = [user, password, *(field.rpartition("=")[2] for field in fields)]
    secrets += [value for _, value in parse_qsl(parts.query)]
    secrets += [folder for folder in parts.path.split("/")[:-1] if len(folder) >= SHORTEST_SECRET]
    secrets += [unquote(secret) for secret in secrets]
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text
