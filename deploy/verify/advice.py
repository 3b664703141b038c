"""Texts of the explanation: one sentence for the cause, one for the remedy.

They stand together so that they can be read, and translated, as one text. Each cause begins with Alipay's own term,
验签失败, because people search for it.
"""

from msgspec import Struct

from deploy.verify.variants import Variant
from schemas.dispositions import Refusal

FAILED = "验签失败"
_NAMES_MAX = 8
_RAW = "Use the request's raw bytes, before any framework or proxy has parsed them."


class Advice(Struct, frozen=True):
    """A cause and its remedy."""

    cause: str
    remedy: str


def departures(found: tuple[Variant, ...], key: str, names: tuple[str, ...] = ()) -> Advice:
    """Return the advice on a message whose signature is valid once these changes are undone; `key` verifies it.

    `names` are the parameters that a change is about.
    """
    cause = ", and ".join(_VARIANTS[variant][0] for variant in found).replace("{key}", key)
    cause = cause.replace("{names}", ", ".join(names[:_NAMES_MAX]) + (" ..." if len(names) > _NAMES_MAX else ""))
    remedies = dict.fromkeys(_VARIANTS[variant][1] for variant in found)
    return Advice(f"{FAILED}: {cause}.", " ".join(remedies))


def refusal(reason: Refusal, detail: str) -> Advice:
    """Return the advice on a message that is refused for a reason other than its signature."""
    cause, remedy = _REFUSALS.get(reason, (f"the message is refused: {reason.value}", ""))
    because = f" ({detail})" if detail and detail != reason.value else ""
    return Advice(f"{FAILED}: {cause}{because}.", remedy)


def sign_type(given: str, pinned: str, *, holds: bool, otherwise: Advice) -> Advice:
    """Return the advice on a message that names another algorithm than the account's.

    `holds` is true if only the algorithm is wrong; if not, `otherwise` is the advice on the signature itself.
    """
    named = f"names sign_type {given}" if given else "names no sign_type"
    differ = f"签名算法不一致{_hashes(given, pinned)}"
    cause = f"{FAILED}: the message {named} and the account is pinned to {pinned} ({differ}), so no key is tried."
    if not holds:
        also = otherwise.cause.removeprefix(f"{FAILED}: ")
        return Advice(f"{cause} Besides, {also}", f"Do not change the account for it. {otherwise.remedy}")
    return Advice(
        cause,
        f"The signature itself is valid: if Alipay signed so before the account moved to {pinned}, add a retiring "
        "entry ([[accounts.NAME.retiring]]) with this sign_type, its key and until; if it signs so now, change "
        "sign_type (and the key that belongs to it) in accounts.toml; otherwise the message has been tampered with.",
    )


def former_algorithm(given: str, pinned: str, key: str) -> Advice:
    """Return the advice on a message under another algorithm, by a key in a file that no account names any more."""
    return Advice(
        f"{FAILED}: the message names sign_type {given} and was signed with {key}, which no account names any more "
        f"(旧密钥已移除), and the account is pinned to {pinned}.",
        f"If Alipay used it before the account moved to {pinned}, name the file in a retiring entry "
        f"([[accounts.NAME.retiring]]) with sign_type {given} and until; otherwise the message has been tampered with.",
    )


def _hashes(given: str, pinned: str) -> str:
    """Return the hashes of two RSA algorithms, in words; empty for others."""
    known = {"RSA": "SHA-1", "RSA2": "SHA-256"}
    return f": {given} is {known[given]}, {pinned} is {known[pinned]}" if {given, pinned} == known.keys() else ""


def retiring(found: Advice, given: str, until: str) -> Advice:
    """Return the advice on a message that a retiring key verifies."""
    return Advice(
        f"{found.cause} It uses the old (retiring) algorithm {given} (旧签名算法), which counts until {until}.",
        found.remedy or "Leave the retiring entry in place as long as such news comes; from until on, it is refused.",
    )


def retired(given: str, until: str, *, holds: bool) -> Advice:
    """Return the advice on a message under a retiring algorithm that has ended. `holds`: its signature is valid."""
    ended = f"the message uses the old (retiring) algorithm {given} (旧签名算法), which ended (until = {until})"
    if holds:
        return Advice(
            f"{FAILED}: {ended}.",
            "The signature itself is valid: if Alipay still sends news under it, move until in accounts.toml, and its "
            "next resend is accepted.",
        )
    return Advice(
        f"{FAILED}: {ended}, and no key of the old algorithm signed this text.", "Do not change the account for it."
    )


def grammar(detail: str, *, is_padded: bool) -> Advice:
    """Return the advice on a body that is not a form, but whose signature would be valid."""
    if is_padded:
        return Advice(
            f"{FAILED}: there are line ends or blanks around the body, which is otherwise signed correctly.",
            "The capture added them (an editor, echo): save the body without a line end. " + _RAW,
        )
    return Advice(
        f"{FAILED}: the signature would be valid, but the body is not in the form that Alipay sends: {detail}.", _RAW
    )


def from_decoded(read_as: str) -> str:
    """Return the remark on a message that was made of decoded parameters."""
    return f"It was read from decoded parameters ({_NOTATIONS.get(read_as, read_as)}): the raw body would prove more."


def truncated(received: int, announced: int) -> Advice:
    """Return the advice on a body that is shorter than its Content-Length."""
    return Advice(
        f"{FAILED}: the body is truncated (报文不完整): it has {received} of the {announced} bytes announced.",
        "Find what cuts it: a buffer of the program or proxy, or of the log that this capture comes from. " + _RAW,
    )


def other_account(name: str, number: str, *, looks_like_sandbox: bool) -> Advice:
    """Return the advice on a message that names an application or merchant that no account here has."""
    place = "the sandbox (沙箱)" if looks_like_sandbox else "another application, or the sandbox (沙箱)"
    return Advice(
        f"{FAILED}: the message names {name} {number}, which no account here has: it is from {place}.",
        "Sandbox and production have different numbers and keys: add an account for this one, or change the notify "
        "address (notify_url) of the other application.",
    )


def other_signer(key: str) -> Advice:
    """Return the advice on a signature over another text by a known key of another account."""
    return Advice(
        f"{FAILED}: the signature was made by {key}, which is not a key of this account, and over another text.",
        "Check which account this message belongs to: another application, or the sandbox instead of production.",
    )


VALID = Advice("The signature is valid, and the message is for this account (验签成功).", "")
CUT_SIGN = Advice(
    f"{FAILED}: the signature (sign) is shorter than any that the account's keys make, so it was cut off.",
    "Look for a column, buffer or log line that is too short: 2048 bits are 344 characters. " + _RAW,
)
REDACTED = Advice(
    f"{FAILED}: personal data was hidden (***) or erased in this copy, and the signature covers it.",
    "Take the bytes with personal data: `alipay-notify held show ID --reveal`, or Reveal on the notification's page. "
    "Bytes from which it was erased cannot be verified any more.",
)
JAVA_ARRAYS = Advice(
    f"{FAILED}: the values are addresses of Java arrays ([Ljava.lang.String;@...), not the parameters.",
    "Print the first element of each array of request.getParameterMap(), or save the raw body.",
)
OTHER_TEXT = Advice(
    f"{FAILED}: the account's key made this signature, but over another text (待签名字符串): a parameter was changed, "
    "added or removed after signing, or the signature belongs to another message.",
    "The keys are right. Compare the signed text with the text that was sent. " + _RAW,
)
UNKNOWN_SIGNER = Advice(
    f"{FAILED}: no key known here made this signature.",
    "Download Alipay's public key (支付宝公钥) for this application and product again. It is not the application's own "
    "key (应用公钥), and the sandbox, RSA and RSA2 have different ones. If a key was removed here (旧密钥), give its "
    "file with --key.",
)
OWN_KEY = Advice(
    f"{FAILED}: 应用公钥 (the application's own public key) is in the place of 支付宝公钥 (Alipay's public key), but "
    "Alipay signs with its own key.",
    "Put Alipay's public key (支付宝公钥) into the account's keys. Upload your own key to Alipay; it is not used here.",
)
MD5_MISMATCH = Advice(
    f"{FAILED}: this text with this MD5 key has another digest; a digest does not show which of the two is wrong.",
    "Compare the MD5 key with the one in Alipay's merchant centre, then the signed text with the text that was sent.",
)
DSA_MISMATCH = Advice(
    f"{FAILED}: no key of the account made this signature over this text; a DSA signature does not show whether the "
    "key or the text is wrong.",
    "Compare the key with the one in Alipay's merchant centre, then the signed text with the text that was sent.",
)
MALFORMED_SIGN = Advice(
    f"{FAILED}: the signature is not well-formed: it must be strict standard base64 (MD5: 32 lower-case hex digits).",
    "A signature that was cut, wrapped or decoded on the way cannot be repaired. " + _RAW,
)

_NOTATIONS = {
    "json": "JSON",
    "quoted": "names and values in quotes",
    "print_r": "PHP's print_r",
    "var_dump": "PHP's var_dump",
    "serialized": "PHP's serialize",
    "map": "a map without quotes",
    "go_map": "a Go map",
    "lines": "one pair a line",
    "event": "a JSON event",
    "curl": "a curl command",
}
_UNTOUCHED = "Forward the body unchanged."
_ANY_CHARSET = "Forward the body unchanged: signatures cover bytes, so that they are verified without decoding."

_VARIANTS: dict[Variant, tuple[str, str]] = {
    Variant.BODY_TRIMMED: (
        "there are line ends or blanks around the body that were not signed",
        "Save the body without a line end.",
    ),
    Variant.BODY_UNESCAPED: (
        "the body was HTML-escaped after signing (&amp; for &)",
        "Do not pass the body through an HTML or XML filter.",
    ),
    Variant.NOT_DECODED: (
        "this body is already percent-decoded",
        _RAW,
    ),
    Variant.DECODED_TWICE: (
        "the values were percent-encoded again after signing",
        "A proxy or framework encodes the form again: forward the body unchanged.",
    ),
    Variant.QUERY_INCLUDED: (
        "parameters of the address were signed too, because notify_url has a query",
        "Give Alipay a notify_url without a query; the receiver never reads the query.",
    ),
    Variant.VALUES_TRIMMED: (
        "blanks around values were added after signing, or removed before it",
        "Trim subject and body before you send them to Alipay, and change nothing afterwards.",
    ),
    Variant.VALUES_UNESCAPED: (
        "values were HTML-escaped after signing (&quot; for a quote)",
        "An input filter (against XSS, for example) rewrites the form: remove it from this path.",
    ),
    Variant.PLUS_TO_BLANK: (
        "blanks have become + signs, because the form was encoded again as a URL",
        _UNTOUCHED,
    ),
    Variant.UTF8_TO_GBK: (
        "the text was signed in GBK and converted to UTF-8 on the way (编码, the charset, was changed)",
        _ANY_CHARSET,
    ),
    Variant.GBK_TO_UTF8: (
        "the text was signed in UTF-8 and converted to GBK on the way (编码, the charset, was changed)",
        _ANY_CHARSET,
    ),
    Variant.LATIN1: (
        "the text was read as Latin-1 and written as UTF-8 on the way (乱码, broken characters)",
        "A framework decoded the form without its charset: forward the body unchanged.",
    ),
    Variant.BLANK_TO_PLUS: (
        "+ signs in the values have become blanks, because the form was decoded twice (解码两次)",
        "Decode the form once; a framework has done it already when it passes parameters on.",
    ),
    Variant.BLANK_CUT: (
        "a blank or line end around {names} was removed after signing",
        "A filter trims the parameters of requests: remove it from this path.",
    ),
    Variant.LINE_ENDS: (
        "the line ends in the values were converted",
        _UNTOUCHED,
    ),
    Variant.SLASHES_ADDED: (
        "backslashes were added before quotes (转义, PHP's addslashes or magic quotes)",
        "Use the parameters before the framework escapes them (stripslashes in old PHP).",
    ),
    Variant.ESCAPES_DECODED: (
        "&quot; in the values has become a quote, because an HTML filter decoded it after signing",
        "An input filter rewrites the form: remove it from this path.",
    ),
    Variant.PARAMETER_ADDED: (
        "{names} was added after signing (多余的参数)",
        "A framework, proxy or rewrite rule (s=, _url=, q=) adds it: forward the body unchanged, or take only the "
        "parameters that Alipay sent.",
    ),
    Variant.PARAMETER_DROPPED: (
        "{names} was signed and is missing here (缺少参数)",
        "A framework took it out, or the code removes it before it verifies: take out only sign and sign_type.",
    ),
    Variant.SIGN_TYPE_KEPT: (
        "sign_type was signed too, which Alipay does in Returns of the sandbox (沙箱) and in messages of life accounts "
        "(生活号), but in no payment notification",
        "Check a Return as a Return (POST /api/returns). Give life accounts an address of their own.",
    ),
    Variant.CERT_SN_DROPPED: (
        "alipay_cert_sn is in the form but was not signed",
        "A proxy or framework added it: forward the body unchanged.",
    ),
    Variant.ORIGINAL_ORDER: (
        "the parameters were signed in the order sent, not sorted by name",
        "Alipay's notification service did not sign this message. A test of your own must sort by name.",
    ),
    Variant.PATH_OF_REQUEST: (
        "Antom signed the path of this request, but the account has another public_path",
        "Set public_path to the path of the notify address that is configured at Antom.",
    ),
    Variant.PATH_WITH_QUERY: (
        "the query of the address was signed with the path",
        "Configure a notify address without a query at Antom.",
    ),
    Variant.TRAILING_SLASH: (
        "the signed path and public_path differ in a slash at the end",
        "Set public_path to exactly the path of the notify address that is configured at Antom.",
    ),
    Variant.BODY_COMPACTED: ("the JSON body was written again, with other blanks than were signed", _RAW),
    Variant.BODY_SPACED: ("the JSON body was written again, with other blanks than were signed", _RAW),
    Variant.SIGN_BLANK_TO_PLUS: (
        "the + signs of the signature have become blanks: it was sent without percent-encoding, or decoded twice",
        "Decode the form once. A sender must write + as %2B.",
    ),
    Variant.SIGN_DECODED_AGAIN: (
        "the signature is still percent-encoded, because it was encoded twice",
        "A proxy or framework encodes the message again: forward it unchanged.",
    ),
    Variant.SIGN_WHITESPACE: (
        "there are line ends or blanks inside the signature",
        "Write the signature in one piece.",
    ),
    Variant.SIGN_URL_SAFE: (
        "the signature is in the URL-safe base64 alphabet (- and _)",
        "Alipay writes standard base64, so the signature was re-encoded: forward the message unchanged.",
    ),
    Variant.SIGN_UNPADDED: (
        "the = at the end of the signature is missing",
        "It was cut off on the way: forward the message unchanged.",
    ),
    Variant.SIGN_UPPER_CASE: (
        "the MD5 digest is in upper case",
        "Alipay writes lower-case hex, so Alipay did not sign this message.",
    ),
    Variant.OTHER_HASH: (
        "it was signed with another hash than its sign_type has (签名算法: RSA is SHA-1, RSA2 and RSA256 are SHA-256)",
        "Alipay signs with the hash of the sign_type that it names: check if sign_type is rewritten on the way, or "
        "which hash a sender of your own uses.",
    ),
    Variant.OTHER_KEY_OF_ACCOUNT: (
        "it was signed with key version {key}, but the header names another",
        "Check that each file under keys has the version of its key.",
    ),
    Variant.KEY_OF_OTHER_ACCOUNT: (
        "it was signed with a key of another account ({key})",
        "Check which notify_url this application has at Alipay, and which key file the account names.",
    ),
    Variant.GIVEN_KEY: (
        "it was signed with the key given for comparison ({key}), which is not a key of the account",
        "If it is Alipay's key, add it to the account's keys. If it is your own (应用公钥), you signed this message "
        "yourself.",
    ),
    Variant.KEY_OF_OTHER_ALGORITHM: (
        "it was signed with {key}, a key of this account that counts for that sign_type only (签名算法不符)",
        "Alipay names the sign_type that it signs with, so the message was changed on the way: forward it unchanged.",
    ),
    Variant.UNLISTED_KEY: (
        "it was signed with {key}, a key file that no account names (旧密钥已移除, a key that was removed)",
        "If Alipay still signs with it, name the file in the account's keys or certificates again, beside the new one; "
        "otherwise the message has been tampered with.",
    ),
}

AMBIGUOUS = Advice(
    "The signature is valid (验签成功), but a value contains & and a parameter's name and =, so that the same "
    "signature also fits other parameters.",
    "It is acknowledged and quarantined. Treat it as an attack until you have checked it. Keep such text out of "
    "subject, body and passback_params.",
)

_REFUSALS: dict[Refusal, tuple[str, str]] = {
    Refusal.MALFORMED: ("the message is not in the form that Alipay sends", _RAW),
    Refusal.TOO_MANY_FIELDS: ("there are more parameters than in any notification", _RAW),
    Refusal.FIELD_TOO_LONG: ("a parameter is longer than in any notification", _RAW),
    Refusal.DUPLICATE_PARAM: (
        "a parameter occurs twice, and two parsers would use different ones",
        "A proxy or framework adds parameters: forward the body unchanged.",
    ),
    Refusal.MISSING_SIGN: (
        "there is no signature: no sign in the form's body, or one of Antom's three signing headers is missing",
        "Names are exact (not Sign, not sign[]), only & separates parameters, and parameters in the address are not "
        "read. For Antom, capture the headers signature, client-id and request-time too.",
    ),
    Refusal.UNKNOWN_KEY: (
        "the message names a key version, or a certificate, that the account does not have",
        "Add the key under its version to the account's keys. Download it from Antom's or Alipay's own pages.",
    ),
    Refusal.UNSUPPORTED_SIGN_TYPE: (
        "it names another signature algorithm (签名算法) than the account has",
        "If Alipay signed so before the account moved, add a retiring entry ([[accounts.NAME.retiring]]) with this "
        "sign_type, its key and until, or move the until of the entry.",
    ),
    Refusal.NOT_OURS: (
        "the signature is valid, but the message is for another merchant",
        "Check seller_id, app_id, auth_app_id or client_id of the account against the message.",
    ),
}
