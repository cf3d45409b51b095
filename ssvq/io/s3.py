"""S3 that survives an outage of its server: a request is retried until it succeeds or a time limit is over.

s3fs sends each request through one method, `_call_s3`, and only that retries. Bodies are read within it, so that a
broken body is requested again too. All requests are safe to repeat: a PUT writes the same bytes under the same name,
and a DELETE of a missing object succeeds.
"""

import asyncio
import errno
import io
from typing import Any

from aiohttp import ClientError as HTTPError  # a body that breaks off comes as aiohttp's own
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    SSLError,
)
from botocore.parsers import ResponseParserError
from fsspec.asyn import sync_wrapper
from fsspec.caching import register_cache
from s3fs import S3File, S3FileSystem
from tenacity import AsyncRetrying, RetryCallState, RetryError, retry_if_exception, stop_after_delay
from tenacity.wait import wait_exponential, wait_random

from ssvq import logs
from ssvq.io.readahead import FIRST_AHEAD, ReadAhead
from ssvq.redaction import redact

# Seconds of one try: a server that vanished is asked again soon, and the limit is nearly kept.
CONNECT_TIMEOUT, READ_TIMEOUT = 10.0, 30.0
LONGEST_WAIT = 15.0

# Errors of the server, not of the request. A body that came too slowly is answered with status 400.
TRANSIENT_STATUS = {408, 429, 500, 502, 503, 504}
TRANSIENT_CODES = {
    "BandwidthLimitExceeded",
    "InternalError",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "XAmzContentSHA256Mismatch",
}

BACKOFF = wait_exponential(multiplier=0.25, max=LONGEST_WAIT) + wait_random(0, 0.5)

register_cache(ReadAhead, clobber=True)


def is_transient(error: BaseException) -> bool:
    """Whether a failed request may succeed later: no connection, a broken one, a timeout, an overloaded or starting
    server.

    Never if the server has decided: not found, not allowed, wrong credentials or certificate.
    """
    answer = error if isinstance(error, ClientError) else error.__cause__
    if isinstance(answer, ClientError):
        status = answer.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status in TRANSIENT_STATUS or answer.response.get("Error", {}).get("Code") in TRANSIENT_CODES
    broken = (HTTPError, ConnectionError, HTTPClientError, IncompleteReadError, ResponseParserError, TimeoutError)
    return isinstance(error, broken) and not isinstance(error, SSLError)


class _Body:
    """The part of a response's body that s3fs uses, over bytes that are already read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._file = io.BytesIO(data)

    async def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def close(self) -> None:
        self._file.close()


class PatientS3FileSystem(S3FileSystem):
    """s3fs with requests that are retried for up to `storage_timeout` seconds, and files with bounded read-ahead.

    Raises OSError if a request fails for that long, and for everything that botocore refuses.
    """

    retries = 1  # of s3fs's own, within one try of ours

    def __init__(self, *args: Any, storage_timeout: float, **kwargs: Any) -> None:
        config = {
            "connect_timeout": min(CONNECT_TIMEOUT, storage_timeout),
            "read_timeout": min(READ_TIMEOUT, storage_timeout),
            "retries": {"total_max_attempts": 1},
        }
        super().__init__(
            *args, config_kwargs=config, use_listings_cache=False, default_cache_type=ReadAhead.name, **kwargs
        )
        self.storage_timeout = storage_timeout
        self._waiting = 0

    async def _call_s3(self, method: str, *akwarglist: Any, **kwargs: Any) -> Any:
        address = "s3://" + "/".join(
            part for part in (kwargs.get("Bucket"), kwargs.get("Key") or kwargs.get("Prefix")) if part
        )
        waiting = False

        def begin_to_wait(state: RetryCallState) -> None:
            nonlocal waiting
            # A connection that the server closed while idle fails once; that is not worth a log line.
            if waiting or state.attempt_number < 2:
                return
            waiting = True
            self._waiting += 1
            if self._waiting == 1:  # one line for an outage, however many requests it affects
                text = f"waiting for {address}: {_reason(state)}; retrying for up to {self.storage_timeout:g} s"
                logs.warning(text)

        def wait(state: RetryCallState) -> float:
            left = self.storage_timeout - (state.seconds_since_start or 0)
            return max(0.0, min(BACKOFF(state), left))

        patiently = AsyncRetrying(
            retry=retry_if_exception(is_transient),
            wait=wait,  # make the last try when the time is over, not one wait earlier
            stop=stop_after_delay(self.storage_timeout),
            before_sleep=begin_to_wait,
        )
        try:
            await self.set_session()  # the client is made first, which may take longer than a short limit
            return await patiently(self._call_once, method, *akwarglist, **kwargs)
        except RetryError as error:
            failure = error.last_attempt.exception()
            reason = f"{address} is not answered after {self.storage_timeout:g} s of trying: {_without_keys(failure)}"
            raise OSError(reason) from None  # the reason says it all, and causes would be shown instead of it
        except BotoCoreError as error:  # not an OSError: no credentials, an unknown profile, a wrong certificate
            raise OSError(_without_keys(error)) from None
        finally:
            self._waiting -= waiting

    call_s3 = sync_wrapper(_call_s3)  # s3fs's own list is bound to its own method

    async def _call_once(self, method: str, *akwarglist: Any, **kwargs: Any) -> Any:
        response = await super()._call_s3(method, *akwarglist, **kwargs)
        if method == "get_object":
            body = response["Body"]
            try:
                response["Body"] = _Body(await body.read())
            finally:
                body.close()
        return response

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> S3File:
        """Open a file as s3fs does. To read it with `ReadAhead`, its start is requested at once: the answer also
        gives its length and version.
        """
        if mode != "rb" or kwargs.get("cache_type", ReadAhead.name) != ReadAhead.name:
            return super()._open(path, mode=mode, **kwargs)
        bucket, key, _ = self.split_path(path)
        try:
            start = self.call_s3("get_object", Bucket=bucket, Key=key, Range=f"bytes=0-{FIRST_AHEAD - 1}")
        except FileNotFoundError:
            raise FileNotFoundError(path) from None
        except OSError as error:
            if error.errno != errno.EINVAL:  # an empty object has no range
                raise
            return super()._open(path, mode=mode, **kwargs)
        size = int(start["ContentRange"].rpartition("/")[2])
        file = super()._open(path, mode=mode, size=size, **kwargs)
        file.details = {"name": path, "size": size, "ETag": start["ETag"], "type": "file"}
        file.read_kw = {"IfMatch": start["ETag"]}
        file.cache.begin(start["Body"].data)
        return file

    async def _read_ranges(self, file: S3File, ranges: list[tuple[int, int]]) -> list[bytes]:
        """Ranges (offset, length) of an open file, requested concurrently. Raises OSError also if it changed
        meanwhile.
        """
        where = {"Bucket": file.bucket, "Key": file.key, **file.read_kw}
        asked = [f"bytes={offset}-{offset + length - 1}" for offset, length in ranges]
        answers = await asyncio.gather(*(self._call_s3("get_object", Range=asked_for, **where) for asked_for in asked))
        return [answer["Body"].data for answer in answers]

    read_ranges = sync_wrapper(_read_ranges)


def _reason(state: RetryCallState) -> str:
    return _without_keys(state.outcome.exception() if state.outcome else None)


def _without_keys(error: BaseException | None) -> str:
    """The message of an error, without a user and password in an endpoint's address."""
    return redact(str(error) or type(error).__name__)
