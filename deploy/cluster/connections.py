"""Turn settings into the parameters of client libraries: Kafka's connection, receipt keys, the name of this process."""

import hashlib
import os
import secrets
import socket
import ssl
from typing import Any

from deploy.cluster import settings as settings_
from deploy.cluster.settings import ServerSettings, UnreadableFile
from deploy.receipt_keys import ReceiptKeys
from schemas.accounts import BadAccounts

RECEIPT_KEY_BYTES_MIN = 32  # a key that can be guessed lets anyone forge records that workers accept


def kafka(settings: ServerSettings) -> dict[str, Any]:
    """Return the connection parameters that every Kafka client of this process needs, as aiokafka names them.

    Raises:
        UnreadableFile: no broker is configured, or a certificate, a key or a password cannot be read.
    """
    tls = settings.kafka_ca_file is not None
    connection: dict[str, Any] = {
        "bootstrap_servers": settings_.kafka_address(settings),
        "security_protocol": ("SASL_" if settings.kafka_user else "") + ("SSL" if tls else "PLAINTEXT"),
    }
    if tls:
        connection["ssl_context"] = _tls(settings)
    if settings.kafka_user and settings.kafka_password_file is not None:
        password = settings_.secret(settings.kafka_password_file, "KAFKA_PASSWORD_FILE", bytes_min=1)
        connection["sasl_mechanism"] = settings.kafka_mechanism
        connection["sasl_plain_username"] = settings.kafka_user
        connection["sasl_plain_password"] = password.decode()
    return connection


def receipt_keys(settings: ServerSettings) -> tuple[bytes, ...]:
    """Return the receipt keys, hashed to a fixed size, in the order of the file's lines; none if no file is configured.

    Raises:
        UnreadableFile: the file cannot be read, or a line is shorter than `RECEIPT_KEY_BYTES_MIN`.
    """
    if settings.receipt_key_file is None:
        return ()
    shared = settings_.secrets(settings.receipt_key_file, "RECEIPT_KEY_FILE", bytes_min=RECEIPT_KEY_BYTES_MIN)
    return tuple(hashlib.sha256(secret).digest() for secret in shared)


def receipt_keys_in_use(settings: ServerSettings) -> ReceiptKeys:
    """Return the receipt keys with what reloads them.

    Raises:
        UnreadableFile: as `receipt_keys`.
    """
    receipt_keys(settings)  # a start is refused by the setting's name

    def read() -> tuple[bytes, ...]:
        try:
            return receipt_keys(settings)
        except UnreadableFile as error:
            raise BadAccounts([str(error)]) from None

    return ReceiptKeys(settings.receipt_key_file, read)


def name(role: str) -> str:
    """Return a unique name for this process. A successor with the same process id on the same host gets another."""
    return f"{role}-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


def _tls(settings: ServerSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.kafka_ca_file)
        if settings.kafka_certificate_file is not None:
            context.load_cert_chain(settings.kafka_certificate_file, settings.kafka_key_file)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        raise UnreadableFile(f"TLS to Kafka: {type(error).__name__}: {error}") from None
    return context
