"""An issuer of OpenID Connect: a server of HTTPS on a thread, with keys of its own that rotate."""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.wire.certificates import Authority

Object = dict[str, Any]

_HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_RSA = rsa.generate_private_key(65537, 2048)


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _number(value: int, size: int) -> str:
    return encoded(value.to_bytes(size, "big"))


class Key:
    """Signs tokens by one algorithm."""

    def __init__(self, id: str, algorithm: str = "RS256") -> None:
        self.id, self.algorithm = id, algorithm
        curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
        curve = curves.get(algorithm)
        self._private = _RSA if curve is None else ec.generate_private_key(curve)

    def public(self) -> Object:
        row: Object = {"kid": self.id, "use": "sig", "alg": self.algorithm}
        if isinstance(self._private, rsa.RSAPrivateKey):
            numbers = self._private.public_key().public_numbers()
            return {**row, "kty": "RSA", "n": _number(numbers.n, 256), "e": _number(numbers.e, 3)}
        point, size = self._private.public_key().public_numbers(), (self._private.curve.key_size + 7) // 8
        curve = {32: "P-256", 48: "P-384", 66: "P-521"}[size]
        return {**row, "kty": "EC", "crv": curve, "x": _number(point.x, size), "y": _number(point.y, size)}

    def sign(self, claims: Object) -> str:
        header = {"alg": self.algorithm, "kid": self.id, "typ": "JWT"}
        text = f"{encoded(json.dumps(header).encode())}.{encoded(json.dumps(claims).encode())}"
        return f"{text}.{encoded(self._signature(text.encode()))}"

    def _signature(self, data: bytes) -> bytes:
        digest = _HASHES[self.algorithm[2:]]
        if isinstance(self._private, rsa.RSAPrivateKey):
            if self.algorithm.startswith("PS"):
                return self._private.sign(data, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
            return self._private.sign(data, padding.PKCS1v15(), digest)
        size = (self._private.curve.key_size + 7) // 8
        r, s = decode_dss_signature(self._private.sign(data, ec.ECDSA(digest)))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")


class IssuerServer(ThreadingHTTPServer):
    """``keys`` are those that it publishes; ``asked`` the paths that it was asked for. ``named`` is the issuer that
    the discovery document names, if that is not the URL."""

    keys: list[Key]
    asked: list[str]
    authority: Authority
    named: str = ""
    elsewhere: dict[str, tuple[str, str]]
    """By path, the access token that opens it, and the text there."""

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server_port}"

    def token(self, key: Key | None = None, **claims: Any) -> str:
        now = time.time()
        base = {"iss": self.named or self.url, "aud": "me", "sub": "jane", "exp": now + 60, "iat": now}
        return (key or self.keys[0]).sign(
            {name: value for name, value in {**base, **claims}.items() if value is not None}
        )


class _Handler(BaseHTTPRequestHandler):
    server: IssuerServer

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        opened, text = self.server.elsewhere.get(self.path, ("", ""))
        if text:
            is_open = self.headers.get("Authorization", "") == (f"Bearer {opened}" if opened else "")
            self._answer(200 if is_open else 401, "application/jwt", text.encode())
            return
        documents: dict[str, Object] = {
            "/.well-known/openid-configuration": self._discovery(),
            "/elsewhere": self._discovery(),
            "/keys": {"keys": [key.public() for key in self.server.keys]},
        }
        document = documents.get(self.path)
        self._answer(404 if document is None else 200, "application/json", json.dumps(document).encode())

    def _answer(self, status: int, media: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _discovery(self) -> Object:
        return {"issuer": self.server.named or self.server.url, "jwks_uri": f"{self.server.url}/keys"}

    def log_message(self, format: str, *args: Any) -> None: ...


@contextmanager
def issuing(*keys: Key, authority: Authority | None = None) -> Iterator[IssuerServer]:
    server = IssuerServer(("127.0.0.1", 0), _Handler)
    server.keys, server.asked, server.authority = list(keys) or [Key("one")], [], authority or Authority()
    server.elsewhere = {}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate, key = server.authority.issue("127.0.0.1", server=True)
    with tempfile.TemporaryDirectory() as folder:
        pem = Path(folder) / "pem"
        pem.write_bytes(certificate + key)
        context.load_cert_chain(pem)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
