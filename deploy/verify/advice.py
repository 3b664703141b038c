"""What the explanation of a failed signature says: one sentence for the cause, one for what to do about it.

The words stand together so that they can be read, and translated, as one text. Alipay's own term for all of this is
验签失败; each cause carries it, because that is what people search for.
"""

from msgspec import Struct

from deploy.verify.variants import Variant
from schemas.dispositions import Refusal

FAILED = "验签失败"
_RAW = "Hand over the request's raw bytes, before any framework or proxy has read them."


class Advice(Struct, frozen=True):
    """Why, and what to do."""

    cause: str
    remedy: str


def departures(found: tuple[Variant, ...], key: str) -> Advice:
    """On a message whose signature would hold if these were undone."""
    cause = ", and ".join(_VARIANTS[variant][0] for variant in found).replace("{key}", key)
    remedies = dict.fromkeys(_VARIANTS[variant][1] for variant in found)
    return Advice(f"{FAILED}: {cause}.", " ".join(remedies))


def refusal(reason: Refusal, detail: str) -> Advice:
    """On a message that is refused before or after its signature."""
    cause, remedy = _REFUSALS.get(reason, (f"the message is refused: {reason.value}", ""))
    because = f" ({detail})" if detail and detail != reason.value else ""
    return Advice(f"{FAILED}: {cause}{because}.", remedy)


def sign_type(given: str, pinned: str, *, holds: bool, otherwise: Advice) -> Advice:
    """On a message that names another algorithm than the account's; `otherwise` is said of its signature alone."""
    said = f"names sign_type {given}" if given else "names no sign_type"
    cause = f"{FAILED}: the message {said} and the account is pinned to {pinned}, so no key is tried."
    if not holds:
        also = otherwise.cause.removeprefix(f"{FAILED}: ")
        return Advice(f"{cause} Besides, {also}", f"Do not change the account for it. {otherwise.remedy}")
    return Advice(
        cause,
        "The signature itself is right. If this merchant's product at Alipay signs this way, change sign_type (and the "
        "key that belongs to it) in accounts.toml; otherwise somebody has changed the message.",
    )


def grammar(detail: str, *, is_padded: bool) -> Advice:
    """On a form whose signature would hold, if it were a form."""
    if is_padded:
        return Advice(
            f"{FAILED}: a line end or blanks stand around the body, which is otherwise signed correctly.",
            "The capture added them (an editor, echo): save the body without a line end. " + _RAW,
        )
    return Advice(f"{FAILED}: the signature would hold, but the body is not what Alipay sends: {detail}.", _RAW)


def other_maker(key: str) -> Advice:
    """On a signature that another known key made, of some other text."""
    return Advice(
        f"{FAILED}: the signature was made by {key}, which is not a key of this account, and over another text.",
        "Check to which account this message belongs: another application, or the sandbox instead of production.",
    )


OTHER_TEXT = Advice(
    f"{FAILED}: the account's key made this signature, but over another text: a parameter was changed, added or taken "
    "out after signing, or the signature belongs to another message.",
    "Nothing is wrong with the keys. Compare the signed text with what was sent. " + _RAW,
)
STRANGER = Advice(
    f"{FAILED}: no key known here made this signature.",
    "Fetch Alipay's public key (支付宝公钥) for this application and product again. It is not the application's own "
    "(应用公钥), and the sandbox, RSA and RSA2 have different ones.",
)
OWN_KEY = Advice(
    f"{FAILED}: the account's key is the merchant's own public key (应用公钥), the one given to compare with; Alipay "
    "signs with its own.",
    "Put Alipay's public key (支付宝公钥) into the account's keys. Your own goes to Alipay, and nowhere here.",
)
SECRET = Advice(
    f"{FAILED}: this text with this MD5 key has another digest; a digest does not tell which of the two is wrong.",
    "Compare the MD5 key with the one in Alipay's merchant centre, then the signed text with what was sent.",
)
UNDECIDED = Advice(
    f"{FAILED}: no key of the account made this signature over this text; a DSA signature does not tell whether the "
    "key or the text is the wrong one.",
    "Compare the key with the one in Alipay's merchant centre, then the signed text with what was sent.",
)
MALFORMED_SIGN = Advice(
    f"{FAILED}: the signature is not well-formed: not the one spelling that standard base64 (MD5: 32 lower-case hex "
    "digits) has for it.",
    "A signature that was cut, wrapped or decoded on the way cannot be mended. " + _RAW,
)

_VARIANTS: dict[Variant, tuple[str, str]] = {
    Variant.BODY_TRIMMED: (
        "a line end or blanks stand around the body that were not signed",
        "Save the body without a line end.",
    ),
    Variant.BODY_UNESCAPED: (
        "the body was HTML-escaped after signing (&amp; for &)",
        "Do not pass the body through an HTML or XML filter.",
    ),
    Variant.NOT_DECODED: (
        "the values were signed as they stand here: this body is already decoded",
        _RAW,
    ),
    Variant.DECODED_TWICE: (
        "the values were percent-encoded once more after signing",
        "Something on the way re-encodes the form: forward the body untouched.",
    ),
    Variant.QUERY_INCLUDED: (
        "parameters of the address were signed too: notify_url has a query of its own",
        "Give Alipay a notify_url without a query; the query is never read.",
    ),
    Variant.VALUES_TRIMMED: (
        "blanks around values were added after signing, or trimmed before it",
        "Trim subject and body before they are sent to Alipay, and nothing afterwards.",
    ),
    Variant.VALUES_UNESCAPED: (
        "values were HTML-escaped after signing (&quot; for a quote)",
        "An input filter (against XSS, say) rewrites the form: take it off this path.",
    ),
    Variant.PLUS_TO_BLANK: (
        "blanks have become + signs: the form was encoded again as an address is",
        "Forward the body untouched.",
    ),
    Variant.UTF8_TO_GBK: (
        "the text was signed in GBK and was turned into UTF-8 on the way",
        "Forward the body untouched: signatures cover bytes, and no charset needs to be known to check them.",
    ),
    Variant.GBK_TO_UTF8: (
        "the text was signed in UTF-8 and was turned into GBK on the way",
        "Forward the body untouched: signatures cover bytes, and no charset needs to be known to check them.",
    ),
    Variant.LATIN1: (
        "the text was read as Latin-1 and written as UTF-8 on the way",
        "A framework decoded the form without its charset: forward the body untouched.",
    ),
    Variant.SIGN_TYPE_KEPT: (
        "sign_type was signed too, as Alipay does for life-account and service-market messages only",
        "This is no payment notification: do not send such messages to this address.",
    ),
    Variant.CERT_SN_DROPPED: (
        "alipay_cert_sn was not signed, though it stands in the form",
        "Something added it on the way: forward the body untouched.",
    ),
    Variant.ORIGINAL_ORDER: (
        "the parameters were signed in the order sent, not sorted by name",
        "The signer is not Alipay's notification service: a test of one's own must sort by name.",
    ),
    Variant.PATH_OF_REQUEST: (
        "Antom signed the path of this request, and the account's public_path is another",
        "Set public_path to the path of the notify address as Antom was told it.",
    ),
    Variant.PATH_WITH_QUERY: (
        "the query of the address was signed with the path",
        "Tell Antom a notify address without a query.",
    ),
    Variant.TRAILING_SLASH: (
        "the signed path and public_path differ in a slash at the end",
        "Set public_path to the path of the notify address exactly as Antom was told it.",
    ),
    Variant.BODY_COMPACTED: ("the JSON body was written again, with other blanks than were signed", _RAW),
    Variant.BODY_SPACED: ("the JSON body was written again, with other blanks than were signed", _RAW),
    Variant.SIGN_BLANK_TO_PLUS: (
        "the + signs of the signature have become blanks: it was sent without being percent-encoded, or decoded twice",
        "Decode the form once. A sender must write + as %2B.",
    ),
    Variant.SIGN_DECODED_AGAIN: (
        "the signature is still percent-encoded: it was encoded twice",
        "Something on the way re-encodes the message: forward it untouched.",
    ),
    Variant.SIGN_WHITESPACE: ("line ends or blanks stand inside the signature", "Write the signature in one piece."),
    Variant.SIGN_URL_SAFE: (
        "the signature is written in the URL-safe alphabet (- and _)",
        "Alipay writes standard base64: something re-encodes it.",
    ),
    Variant.SIGN_UNPADDED: (
        "the = at the end of the signature are missing",
        "Something cut them: forward it untouched.",
    ),
    Variant.SIGN_UPPER_CASE: (
        "the MD5 digest is in capitals",
        "Alipay writes lower-case hex: the signer is another.",
    ),
    Variant.OTHER_HASH: (
        "it was signed with the other hash (RSA is SHA-1, RSA2 and RSA256 are SHA-256)",
        "Check sign_type of the account, and which key belongs to it.",
    ),
    Variant.OTHER_KEY_OF_ACCOUNT: (
        "it was signed with key version {key}, and the header names another",
        "Check that the files under keys belong to the versions they are named by.",
    ),
    Variant.KEY_OF_OTHER_ACCOUNT: (
        "it was signed with a key of another account ({key})",
        "Check which account's address this application was told as its notify_url, and which key file it names.",
    ),
    Variant.GIVEN_KEY: (
        "it was signed with the key given for comparison ({key}), which is not a key of the account",
        "If it is Alipay's key, add it to the account's keys. If it is your own (应用公钥), you signed this message "
        "yourself.",
    ),
}

_REFUSALS: dict[Refusal, tuple[str, str]] = {
    Refusal.MALFORMED: ("the message is not in the form that Alipay sends", _RAW),
    Refusal.TOO_MANY_FIELDS: ("there are more parameters than any notification has", _RAW),
    Refusal.FIELD_TOO_LONG: ("a parameter is longer than any notification's", _RAW),
    Refusal.DUPLICATE_PARAM: (
        "a parameter occurs twice, and two readers would take two different ones",
        "Something on the way adds parameters: forward the body untouched.",
    ),
    Refusal.MISSING_SIGN: (
        "there is no signature: no sign in the form's body, or one of antom's three signing headers is missing",
        "Names are exact (not Sign, not sign[]), & alone separates, and parameters in the address are not read. For "
        "antom give signature, client-id and request-time with the capture.",
    ),
    Refusal.UNKNOWN_KEY: (
        "the message names a key version, or a certificate, that the account does not have",
        "Add the key under its version to the account's keys. Take it from Antom's or Alipay's own pages.",
    ),
    Refusal.AMBIGUOUS: (
        "the signature is right, but some value holds & and a parameter's name and =, so that the same signature also "
        "fits other parameters",
        "Treat it as an attack until a person has looked. Keep such text out of subject, body and passback_params.",
    ),
    Refusal.NOT_OURS: (
        "the signature is right, but the message is for somebody else",
        "Check seller_id, app_id, auth_app_id or client_id of the account against the message.",
    ),
}  # fmt: skip
