"""The merchant of this suite: its accounts, the keys that sign for them, and notifications to it.

`tests.support.alipay` does the signing.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tests.support import alipay

MD5_KEY = "canary-0f5e-the-md5-key-of-shop-web"  # must turn up nowhere
SG_SELLER, OTHER_SELLER = "2088900000010017", "2088900000010099"
CN_SELLER, CN_APP = "2088900000010041", "2021900000010041"
HK_CLIENT = "SANDBOX_5Y0000000000000099"

Params = dict[str, str]
_serial = count(1)


def fresh(prefix: str) -> str:
    """A number that is new in this run."""
    return f"{prefix}{next(_serial):08d}"


class Keys:
    """Every private key of the suite."""

    def __init__(self) -> None:
        self.sg = alipay.rsa_key("sg", bits=1024)
        self.cn = alipay.rsa_key("cn")
        self.hk = alipay.rsa_key("hk")
        self.hk_old = alipay.rsa_key("hk-old")
        self.gbk = alipay.rsa_key("gbk")
        self.cert = alipay.rsa_key("cert")
        self.stranger = alipay.rsa_key("stranger")
        self.dsa = alipay.dsa_key()


def text_of(params: Mapping[str, str], *, blanks: bool = False, charset: str = "utf-8") -> bytes:
    """The text that Alipay signs; parameters without a value take part in it if `blanks`."""
    return alipay.canonical(params, blanks=blanks, charset=charset)


def encode(params: Mapping[str, str], charset: str = "utf-8") -> bytes:
    """The body as Alipay writes it."""
    return alipay.urlencoded(params, charset)


class Signer:
    """Signs for the accounts of the suite."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys

    def sg(self, params: Params, *, blanks: bool = False) -> Params:
        """The old gateway's in-app payment: RSA with SHA-1, a key of 1024 bits."""
        return _signed(params, self.keys.sg, "RSA", blanks=blanks)

    def gbk(self, params: Params) -> Params:
        return _signed(params, self.keys.gbk, "RSA", charset="gbk")

    def web(self, params: Params) -> Params:
        """The old gateway's website payment: MD5 with a shared secret."""
        return _signed(params, MD5_KEY.encode(), "MD5")

    def cn(
        self, params: Params, *, blanks: bool = False, charset: str = "utf-8", key: rsa.RSAPrivateKey | None = None
    ) -> Params:
        """The Open Platform: RSA2."""
        return _signed(params, key or self.keys.cn, "RSA2", blanks=blanks, charset=charset)

    def dsa(self, params: Params) -> Params:
        return _signed(params, self.keys.dsa, "DSA")

    def antom(
        self,
        body: bytes,
        *,
        path: str = "/notify/antom-hk",
        client_id: str = HK_CLIENT,
        request_time: str | None = None,
        key: rsa.RSAPrivateKey | None = None,
    ) -> dict[str, str]:
        """Antom's three headers for `body`; `signature` is bare base64."""
        time = request_time if request_time is not None else now_iso()
        sign = alipay.antom_signature(body, key or self.keys.hk, path=path, client_id=client_id, request_time=time)
        return {"client-id": client_id, "request-time": time, "signature": sign}


def _signed(
    params: Params, signer: alipay.Signer, sign_type: str, *, blanks: bool = False, charset: str = "utf-8"
) -> Params:
    sign = alipay.signature(text_of(params, blanks=blanks, charset=charset), signer, sign_type)
    return params | {"sign_type": sign_type, "sign": sign}


def now_iso(ago: timedelta = timedelta()) -> str:
    return (datetime.now(UTC) - ago).strftime("%Y-%m-%dT%H:%M:%SZ")


def mapi_payment(**changes: str) -> Params:
    """An in-app payment of the old gateway."""
    return {
        "notify_type": "trade_status_sync",
        "notify_id": fresh("g1n"),
        "notify_time": "2026-02-03 09:10:13",
        "out_trade_no": fresh("SG-"),
        "trade_no": fresh("20260203"),
        "subject": "两杯茶 + 一盒糖",
        "body": "tea, 5% off",
        "trade_status": "TRADE_SUCCESS",
        "total_fee": "31.40",
        "price": "31.40",
        "quantity": "1",
        "discount": "0.00",
        "gmt_create": "2026-02-03 09:10:01",
        "gmt_payment": "2026-02-03 09:10:11",
        "seller_id": SG_SELLER,
        "buyer_id": "2088900000020026",
        "buyer_email": "c***@mail.example",
        "use_coupon": "N",
    } | changes


def website_payment(**changes: str) -> Params:
    """A website payment: it names no payee."""
    return {
        "notify_type": "trade_status_sync",
        "notify_id": fresh("g2n"),
        "notify_time": "2026-02-03 10:00:07",
        "out_trade_no": fresh("WEB-"),
        "trade_no": fresh("20260203"),
        "total_fee": "17.25",
        "currency": "SGD",
        "trade_status": "TRADE_FINISHED",
    } | changes


def payment(**changes: str) -> Params:
    """A payment through the Open Platform."""
    return {
        "notify_type": "trade_status_sync",
        "notify_id": fresh("gpn"),
        "notify_time": "2026-02-03 11:00:31",
        "charset": "utf-8",
        "version": "1.0",
        "app_id": CN_APP,
        "auth_app_id": CN_APP,
        "seller_id": CN_SELLER,
        "out_trade_no": fresh("CN-"),
        "trade_no": fresh("20260203"),
        "trade_status": "TRADE_SUCCESS",
        "total_amount": "120.50",
        "receipt_amount": "120.50",
        "subject": "Ferry, two days",
        "gmt_create": "2026-02-03 11:00:12",
        "gmt_payment": "2026-02-03 11:00:30",
        "buyer_id": "2088900000020034",
        "fund_bill_list": '[{"amount":"120.50","fundChannel":"PCREDIT"}]',
    } | changes


def refund(**changes: str) -> Params:
    """A partial refund through the Open Platform."""
    return (
        payment()
        | {"gmt_refund": "2026-02-04 08:00:00.250", "out_biz_no": fresh("RF-"), "refund_fee": "20.00"}
        | changes
    )


def antom_payment(number: str | None = None) -> bytes:
    """An Antom payment."""
    payment_id = fresh("2026020319")
    return (
        f'{{"notifyType":"PAYMENT_RESULT","result":{{"resultCode":"SUCCESS","resultStatus":"S","resultMessage":"ok"}},'
        f'"paymentRequestId":"{number or fresh("HK-")}","paymentId":"{payment_id}",'
        f'"paymentAmount":{{"currency":"HKD","value":"7700"}},"paymentTime":"2026-02-03T11:31:05+08:00"}}'
    ).encode()


def write_accounts(directory: Path, keys: Keys) -> Path:
    """`accounts.toml` and its key files; returns its path."""
    for name in ("sg", "cn", "hk", "hk_old", "gbk", "dsa"):
        (directory / f"{name}.pem").write_bytes(alipay.pem(getattr(keys, name)))
    (directory / "cert.crt").write_bytes(certificate(keys.cert))
    (directory / "web.txt").write_text(MD5_KEY)
    path = directory / "accounts.toml"
    path.write_text(_ACCOUNTS)
    return path


def certificate(key: rsa.RSAPrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "suite")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM)


_ACCOUNTS = f"""
[accounts.shop-sg]
family = "mapi"
sign_type = "RSA"
keys = ["sg.pem"]
seller_id = "{SG_SELLER}"
currency = "SGD"

[accounts.shop-sg-two]
family = "mapi"
sign_type = "RSA"
keys = ["sg.pem"]
seller_id = "{OTHER_SELLER}"
currency = "SGD"

[accounts.shop-web]
family = "mapi"
sign_type = "MD5"
md5_key_file = "web.txt"
partner = "{SG_SELLER}"
notify_verify = true
currency = "SGD"

[accounts.shop-md5]
family = "mapi"
sign_type = "MD5"
md5_key_file = "web.txt"
seller_id = "{SG_SELLER}"
currency = "SGD"

[accounts.shop-gbk]
family = "mapi"
sign_type = "RSA"
keys = ["gbk.pem"]
seller_id = "{SG_SELLER}"
currency = "SGD"
charset = "gbk"

[accounts.shop-dsa]
family = "mapi"
sign_type = "DSA"
keys = ["dsa.pem"]
seller_id = "{SG_SELLER}"
currency = "SGD"

[accounts.shop-cn]
family = "openapi"
sign_type = "RSA2"
keys = ["cn.pem"]
app_id = "{CN_APP}"
seller_id = "{CN_SELLER}"

[accounts.shop-reg]
family = "openapi"
sign_type = "RSA2"
keys = ["cn.pem"]
app_id = "{CN_APP}"
seller_id = "{CN_SELLER}"
orders = "registered"

[accounts.shop-cert]
family = "openapi"
sign_type = "RSA2"
certificates = ["cert.crt"]
app_id = "{CN_APP}"
seller_id = "{CN_SELLER}"

[accounts.antom-hk]
family = "antom"
client_id = "{HK_CLIENT}"
keys = {{ 1 = "hk.pem", 2 = "hk_old.pem" }}
currency = "HKD"

[accounts.antom-behind]
family = "antom"
client_id = "{HK_CLIENT}"
keys = {{ 1 = "hk.pem" }}
public_path = "/pay/notify/antom-behind"
"""
