"""What contradicts itself in an account whose settings can each be read: each fault with what to do about it."""

from urllib.parse import urlsplit

from schemas import antom
from schemas.accounts import CHARSETS, SIGN_TYPES, Account, CaptureMode, Family, SignType
from schemas.currencies import EXPONENTS
from schemas.retry_profiles import PROFILES


def contradictions(account: Account) -> list[str]:
    """Return the faults of an account, none of which names it."""
    faults = []
    if account.sign_type not in SIGN_TYPES[account.family]:
        allowed = ", ".join(SIGN_TYPES[account.family])
        faults.append(f"sign_type {account.sign_type} does not exist for family {account.family}: use {allowed}")
    faults += [
        f"currency {currency} is not a currency of ISO 4217 with decimals"
        for currency in (account.currency, *account.currencies)
        if currency not in EXPONENTS
    ]
    if account.charset not in CHARSETS:
        faults.append(f"charset must be one of {', '.join(CHARSETS)}")
    if account.retry_profile not in (None, *PROFILES):
        faults.append(f"retry_profile must be one of {', '.join(PROFILES)}")
    return (
        faults + _key_faults(account) + _retiring_faults(account) + _identity_faults(account) + _request_faults(account)
    )


def _key_faults(account: Account) -> list[str]:
    if account.sign_type is SignType.MD5:
        extra = account.keys or account.certificates
        faults = [] if account.md5_key_file else ["sign_type MD5 needs md5_key_file"]
        return faults + (["an MD5 account has no public keys or certificates"] if extra else [])
    faults = ["md5_key_file belongs to sign_type MD5"] if account.md5_key_file else []
    if account.certificates and account.family is not Family.OPENAPI:
        faults.append("certificates belong to family openapi")
    if account.root_certificates and not account.certificates:
        faults.append("root_certificates needs certificates")
    if not account.keys and not account.certificates:
        faults.append("no key: name at least one file with a public key of Alipay in keys")
    return faults


def _retiring_faults(account: Account) -> list[str]:
    faults = []
    taken = {account.sign_type}
    for number, former in enumerate(account.retiring, 1):
        found = _key_faults(account.under(former))
        if former.sign_type not in SIGN_TYPES[account.family]:
            found.append(f"sign_type {former.sign_type} does not exist for family {account.family}")
        elif former.sign_type in taken:
            found.append(f"sign_type {former.sign_type} is already that of the account or of another entry")
        taken.add(former.sign_type)
        faults += [f"retiring entry {number}: {fault}" for fault in found]
    return faults


def _request_faults(account: Account) -> list[str]:
    """Return the faults of the settings for signing Requests."""
    faults = []
    if account.merchant_key_file and account.family is Family.ANTOM and not account.queries:
        faults.append("family antom has no Requests to sign: remove merchant_key_file, or set queries = true")
    elif account.merchant_key_file and account.sign_type is SignType.MD5:
        faults.append("sign_type MD5 signs Requests with md5_key_file: remove merchant_key_file")
    elif account.merchant_key_file and account.sign_type is SignType.DSA:
        faults.append("Requests cannot be signed with DSA: remove merchant_key_file")
    if account.merchant_certificate_file:
        if account.family is not Family.OPENAPI:
            faults.append("merchant_certificate_file belongs to family openapi")
        elif not account.merchant_key_file or not account.root_certificates:
            faults.append("merchant_certificate_file needs merchant_key_file and root_certificates")
    if account.app_auth_token_file and (account.family is not Family.OPENAPI or not account.auth_app_id):
        faults.append("app_auth_token_file belongs to family openapi, to an account with one merchant in auth_app_id")
    faults += [
        f"{name} must be a complete https address (http for a sandbox), without a query"
        for name, address in (("notify_url", account.notify_url), ("gateway_url", account.gateway_url))
        if address is not None and not _is_address(address)
    ]
    return faults + (_query_faults(account) if account.queries else [])


def _query_faults(account: Account) -> list[str]:
    """Return the faults of an account that asks Alipay about its orders."""
    faults = []
    if account.sign_type is SignType.DSA:
        faults.append("queries cannot be signed with DSA: remove queries")
    elif account.sign_type is not SignType.MD5 and not account.merchant_key_file:
        faults.append("queries needs merchant_key_file, your private key")
    if account.family is Family.MAPI and not (account.partner or account.seller_id):
        faults.append("queries needs partner, your own 2088 number")
    if account.family is Family.ANTOM and not account.gateway_url:
        faults.append("queries needs gateway_url, the address of inquiryPayment in your region")
    if account.auth_app_ids:
        faults.append(
            "queries at an account of several merchants: give each merchant that is asked about an account of its own, "
            "with its auth_app_id and app_auth_token_file"
        )
    elif account.auth_app_id not in (None, account.app_id) and not account.app_auth_token_file:
        # Without it Alipay answers about the provider's own trade of that number.
        faults.append(
            "queries for another merchant, auth_app_id, needs app_auth_token_file, the token that it gave you"
        )
    return faults


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("https", "http") and bool(parts.hostname) and not parts.query and parts.port != 0
    except ValueError:
        return False


def _identity_faults(account: Account) -> list[str]:
    if account.family is Family.ANTOM:
        faults = [] if account.client_id else ["family antom needs client_id"]
        if account.public_path is None or not account.public_path.startswith("/") or "?" in account.public_path:
            faults.append("public_path must begin with / and have no query: it is the path that Antom signs")
        if account.notify_verify:
            faults.append("family antom has no notify_verify: remove the setting")
        faults += [f"key version {v} must be a plain number" for v in account.keys if not antom.is_key_version(v)]
        return faults
    faults = [] if account.capture is CaptureMode.AUTOMATIC else ["capture belongs to family antom"]
    faults += _merchant_faults(account)
    if not _is_address(account.notify_verify_url):
        faults.append("notify_verify_url must be a complete https address (http for a sandbox), without a query")
    if account.notify_verify and not account.partner:
        faults.append("notify_verify needs partner, your own 2088 number")
    if account.family is Family.OPENAPI:
        return faults if account.app_id else [*faults, "family openapi needs app_id"]
    if not account.seller_id and not account.notify_verify:
        faults.append(
            "needs seller_id, or notify_verify = true (website notifications name no seller): Alipay signs for all "
            "merchants with one key, so the signature does not show that a notification is yours"
        )
    return faults


def _merchant_faults(account: Account) -> list[str]:
    first = account.first_auth_app_id
    if not account.auth_app_ids:
        return [] if first is None else ["first_auth_app_id needs several merchants in auth_app_id"]
    faults = []
    if account.family is not Family.OPENAPI:
        faults.append("a list in auth_app_id, or any, belongs to family openapi")
    if first is not None and not account.serves(first):
        faults.append("first_auth_app_id must be in auth_app_id")
    return faults
