"""From settings to what client libraries take: Kafka's connection parameters, and the name of this process."""

import hashlib
import os
import secrets
import socket
import ssl
from typing import Any

from deploy.cluster import settings
from deploy.cluster.settings import ServerSettings, UnreadableFile

RECEIPT_KEY_BYTES_MIN = 32  # who guesses it can have a worker believe an unsigned record


def kafka(told: ServerSettings) -> dict[str, Any]:
    """What every Kafka client of this process is given, beside what its own work needs.

    Raises:
        UnreadableFile: nobody says where it is, or a certificate, a key or a password cannot be read.
    """
    tls = told.kafka_ca_file is not None
    connection: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_address(told),
        "security_protocol": ("SASL_" if told.kafka_user else "") + ("SSL" if tls else "PLAINTEXT"),
    }
    if tls:
        connection["ssl_context"] = _tls(told)
    if told.kafka_user and told.kafka_password_file is not None:
        password = settings.secret(told.kafka_password_file, "KAFKA_PASSWORD_FILE", bytes_min=1)
        connection["sasl_mechanism"] = told.kafka_mechanism
        connection["sasl_plain_username"] = told.kafka_user
        connection["sasl_plain_password"] = password.decode()
    return connection


def receipt_keys(told: ServerSettings) -> tuple[bytes, ...]:
    """The secrets that all processes share, as keys of fixed size: one of each line; none where there is no file.

    Raises:
        UnreadableFile: the file cannot be read, or a line of it could be guessed.
    """
    if told.receipt_key_file is None:
        return ()
    shared = settings.secrets(told.receipt_key_file, "RECEIPT_KEY_FILE", bytes_min=RECEIPT_KEY_BYTES_MIN)
    return tuple(hashlib.sha256(secret).digest() for secret in shared)


def name(role: str) -> str:
    """A name that no other process has, also not this one's successor with the same number on the same host."""
    return f"{role}-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


def _tls(settings: ServerSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.kafka_ca_file)
        if settings.kafka_certificate_file is not None:
            context.load_cert_chain(settings.kafka_certificate_file, settings.kafka_key_file)
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        raise UnreadableFile(f"TLS to Kafka: {type(error).__name__}: {error}") from None
    return context
