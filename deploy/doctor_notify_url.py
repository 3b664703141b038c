"""The check of `doctor` on a notify URL, as it is registered at Alipay: it leads to a receiver, without a redirect.

Alipay follows no redirect, and counts whatever is not a plain `success` as a failed try. The check sends a GET, which a
receiver refuses with 405. It comes from this machine, so it proves nothing about the way from Alipay's network.
"""

import ssl
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, InvalidURL
from urllib.parse import SplitResult, urlsplit

from deploy.doctor import Finding, FindingState

ANSWERS_WITHIN_S = 5.0
REFUSED = 405
REGISTER = "register the last address of the way, or have this one answered without a redirect"


def examine(url: str) -> Finding:
    """Return the finding about one URL."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError
        return _answered(url, *_asked(parts))
    except ssl.SSLCertVerificationError as error:
        advice = "serve the whole chain of a certificate for this name that has not expired"
        return _wrong(f"{url}: its certificate is not valid: {error.verify_message}", advice)
    except (ValueError, InvalidURL):
        return _wrong(f"{url} is no http or https URL", "give the URL as it is registered, with its path")
    except (OSError, HTTPException) as error:
        advice = "check the name, the load balancer, the firewall, and whether a receiver runs"
        return _wrong(f"{url} cannot be reached: {str(error) or type(error).__name__}", advice)


def _asked(parts: SplitResult) -> tuple[int, HTTPResponse]:
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(str(parts.hostname), parts.port, timeout=ANSWERS_WITHIN_S)
    try:
        connection.request("GET", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
        response = connection.getresponse()
        return response.status, response
    finally:
        connection.close()


def _answered(url: str, status: int, response: HTTPResponse) -> Finding:
    if status == REFUSED and "POST" in (response.getheader("Allow") or ""):
        return Finding(
            name="notify URL", state=FindingState.OK, detail=f"{url} leads to a receiver, without a redirect"
        )
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        to = response.getheader("Location") or "nowhere"
        return _wrong(f"{url} redirects to {to}: Alipay does not follow", REGISTER)
    if status == HTTPStatus.NOT_FOUND:
        advice = "the path has to be /notify/ACCOUNT, or whatever the load balancer turns into it"
        return _wrong(f"{url}: no account has this path (404)", advice)
    advice = "have the load balancer pass this path to the receivers; they answer a GET with 405"
    return _wrong(f"{url}: another program answers, or no receiver is ready ({status})", advice)


def _wrong(detail: str, advice: str) -> Finding:
    return Finding(name="notify URL", state=FindingState.WRONG, detail=detail, advice=advice)
