"""An independent signer: keys, signatures and forms as Alipay makes them, and accounts that know these keys.

The signing is written from the protocol, with urllib and the primitives alone and without a line of the program, so
that a mistake in our own reading of the signed text cannot hide behind the same mistake here.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from urllib.parse import quote_plus

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, padding, rsa

from ingest.key_files import Md5Secret
from ingest.keys import Key, KeyRing
from schemas.accounts import Account, Family, SignType

MD5_SECRET = b"secret-of-the-tests-0123456789ab"
SELLER = "2088999900001017"
APP = "2021999900001041"
CLIENT = "SANDBOX_5Y0000000000000001"

type_of_hash = {"RSA": hashes.SHA1(), "RSA2": hashes.SHA256(), "RSA256": hashes.SHA256(), "DSA": hashes.SHA1()}
Signer = rsa.RSAPrivateKey | dsa.DSAPrivateKey | bytes


@cache
def rsa_key(name: str = "alipay", *, bits: int = 2048, exponent: int = 65537) -> rsa.RSAPrivateKey:
    """The same key for the same name, throughout a run."""
    return rsa.generate_private_key(public_exponent=exponent, key_size=bits)


@cache
def dsa_key(name: str = "alipay", *, bits: int = 1024) -> dsa.DSAPrivateKey:
    return dsa.generate_private_key(key_size=bits)


def signature(text: bytes, signer: Signer, sign_type: str) -> str:
    """As it stands in a form: base64, or hex for MD5."""
    if isinstance(signer, bytes):
        return hashlib.md5(text + signer).hexdigest()
    if isinstance(signer, dsa.DSAPrivateKey):
        return base64.b64encode(signer.sign(text, type_of_hash[sign_type])).decode()
    return rsa_signature(text, signer, type_of_hash[sign_type])


def rsa_signature(text: bytes, key: rsa.RSAPrivateKey, algorithm: hashes.HashAlgorithm) -> str:
    return base64.b64encode(key.sign(text, padding.PKCS1v15(), algorithm)).decode()


def encoded(value: str | bytes, charset: str = "utf-8") -> bytes:
    return value if isinstance(value, bytes) else value.encode(charset)


def canonical(
    params: Mapping[str, str | bytes],
    *,
    blanks: bool = True,
    charset: str = "utf-8",
    left_out: Sequence[str] = ("sign", "sign_type"),
) -> bytes:
    """The signed text of a form's parameters; those without a value take part in it if `blanks`."""
    pairs = {encoded(name): encoded(value, charset) for name, value in params.items() if name not in left_out}
    return b"&".join(b"%s=%s" % (name, pairs[name]) for name in sorted(pairs) if pairs[name] or blanks)


def urlencoded(params: Mapping[str, str | bytes], charset: str = "utf-8") -> bytes:
    return "&".join(f"{quote_plus(n)}={quote_plus(encoded(v, charset))}" for n, v in params.items()).encode("ascii")


def signed(
    params: Mapping[str, str | bytes],
    signer: Signer,
    sign_type: str,
    *,
    blanks: bool = True,
    charset: str = "utf-8",
) -> dict[str, str | bytes]:
    """The parameters with `sign_type` and the signature over them."""
    text = canonical(params, blanks=blanks, charset=charset)
    return {**params, "sign_type": sign_type, "sign": signature(text, signer, sign_type)}


def form(params: Mapping[str, str | bytes], signer: Signer, sign_type: str, *, charset: str = "utf-8") -> bytes:
    """A signed form's body."""
    return urlencoded(signed(params, signer, sign_type, charset=charset), charset)


def antom_headers(
    body: bytes,
    signer: rsa.RSAPrivateKey,
    *,
    path: str = "/notify/antom-hk",
    client_id: str = CLIENT,
    request_time: str = "2025-03-18T06:31:07Z",
    key_version: str = "1",
) -> dict[str, str]:
    """The three signing headers of an Antom message."""
    sign = antom_signature(body, signer, path=path, client_id=client_id, request_time=request_time)
    return {
        "client-id": client_id,
        "request-time": request_time,
        "signature": antom_header(sign, version=key_version),
    }


def antom_signature(body: bytes, signer: rsa.RSAPrivateKey, *, path: str, client_id: str, request_time: str) -> str:
    """The signature over an Antom message, as base64."""
    return signature(f"POST {path}\n{client_id}.{request_time}.".encode() + body, signer, "RSA256")


def antom_header(signature: str, *, version: str = "1", algorithm: str = "RSA256") -> str:
    """The value of the `signature` header."""
    return f"algorithm={algorithm},keyVersion={version},signature={quote_plus(signature)}"


def ring(sign_type: SignType, *signers: Signer, ids: tuple[str, ...] = ()) -> KeyRing:
    """A ring with the public halves of these keys, called `k0`, `k1` … unless named."""
    names = ids or tuple(f"k{number}" for number in range(len(signers)))
    keys = tuple(
        Key(name, Md5Secret(signer) if isinstance(signer, bytes) else signer.public_key())
        for name, signer in zip(names, signers, strict=True)
    )
    return KeyRing("shop", sign_type, keys)


def pem(key: rsa.RSAPrivateKey | dsa.DSAPrivateKey) -> bytes:
    """The public half as PEM."""
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def bare_base64(key: rsa.RSAPrivateKey) -> bytes:
    """The public half as Alipay's dashboards show it."""
    der = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der)


def private_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def written(directory: Path, name: str, content: bytes) -> str:
    """The name of a file with this content."""
    (directory / name).write_bytes(content)
    return name


def accounts_file(home: Path) -> Path:
    """Write `accounts.toml` with one account, shop-cn, and its key; return its path."""
    written(home, "alipay.pem", pem(rsa_key("alipay")))
    path = home / "accounts.toml"
    path.write_text(
        f'[accounts.shop-cn]\nfamily = "openapi"\nsign_type = "RSA2"\nkeys = ["alipay.pem"]\n'
        f'app_id = "{APP}"\nseller_id = "{SELLER}"\n'
    )
    return path


def mapi(sign_type: SignType = SignType.RSA, **changes: object) -> Account:
    settings: dict[str, object] = {"seller_id": SELLER, "partner": SELLER, "currency": "USD", "keys": {"k": "k"}}
    return Account(name="shop-sg", family=Family.MAPI, sign_type=sign_type, **(settings | changes))  # type: ignore[arg-type]


def openapi(sign_type: SignType = SignType.RSA2, **changes: object) -> Account:
    settings: dict[str, object] = {"app_id": APP, "seller_id": SELLER, "keys": {"k": "k"}}
    return Account(name="shop-cn", family=Family.OPENAPI, sign_type=sign_type, **(settings | changes))  # type: ignore[arg-type]


def antom(**changes: object) -> Account:
    settings: dict[str, object] = {"client_id": CLIENT, "public_path": "/notify/antom-hk", "keys": {"1": "k"}}
    return Account(name="antom-hk", family=Family.ANTOM, sign_type=SignType.RSA256, **(settings | changes))  # type: ignore[arg-type]
