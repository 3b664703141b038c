"""Sign Requests with the merchants' keys, for the admin port and the command line. No receiver uses this."""

from collections.abc import Callable
from pathlib import Path

from ingest.checkout import payments
from ingest.checkout.merchant_keys import MerchantKeys
from ingest.checkout.requests import BadRequest
from ingest.key_files import BadKey
from schemas import times
from schemas.accounts import Account, Family, SignType
from schemas.payment_request import PaymentRequest, SignedPayment
from workers.admin.requests import NoMerchantKey, UnsignableRequest


class RequestSigner:
    """Signs Requests. Key files are relative to `directory`, and are read again after they have changed."""

    def __init__(self, directory: Path, *, now_ms: Callable[[], int]) -> None:
        self._keys = MerchantKeys(directory)
        self._now_ms = now_ms

    def __call__(self, request: PaymentRequest, account: Account, /) -> SignedPayment:
        """Return the signed Request.

        Raises:
            UnsignableRequest: the payment has a fault.
            NoMerchantKey: the account has no usable key.
        """
        try:
            payments.check(request, account)
            key = self._keys.of(account)
            if key is None:
                raise NoMerchantKey(_missing(account))
            return payments.sign(request, account, key, now=times.from_epoch_ms(self._now_ms()))
        except BadRequest as bad:
            raise UnsignableRequest(str(bad)) from None
        except BadKey as bad:
            raise NoMerchantKey(f"account {account.name} cannot sign: {bad}") from None


def _missing(account: Account) -> str:
    if account.family is not Family.ANTOM and account.sign_type is SignType.DSA:
        return f"account {account.name} has sign_type DSA, with which Requests cannot be signed"
    return f"account {account.name} has no merchant_key_file: name your private key in accounts.toml"
