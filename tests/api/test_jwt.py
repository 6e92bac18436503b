from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from joserfc import jwt as josejwt
from joserfc.jwk import ECKey, JWKRegistry, RSAKey

from tiphys.api import jwt


def pem_of(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def rsa_pem() -> bytes:
    return pem_of(rsa.generate_private_key(65537, 2048))


def ec_pem(curve: type[ec.EllipticCurve]) -> Callable[[], bytes]:
    return lambda: pem_of(ec.generate_private_key(curve()))


KEYS = {
    "ES256": jwt.new_key,
    "ES384": ec_pem(ec.SECP384R1),
    "ES512": ec_pem(ec.SECP521R1),
    "RS256": rsa_pem,
}


@pytest.mark.parametrize("algorithm", KEYS)
def test_another_library_reads_our_tokens_and_we_read_its(algorithm: str) -> None:
    pem = KEYS[algorithm]()
    key = jwt.signing_key(pem)
    assert key.algorithm == algorithm
    theirs = JWKRegistry.import_key(jwt.jwk(key.private.public_key()))
    read = josejwt.decode(key.sign({"sub": "x"}), theirs, algorithms=[algorithm])
    assert (read.header, read.claims) == ({"alg": algorithm, "kid": key.id}, {"sub": "x"})
    private = (RSAKey if algorithm == "RS256" else ECKey).import_key(pem)
    token = josejwt.encode({"alg": algorithm}, {"sub": "y"}, private, algorithms=[algorithm])
    assert jwt.verify(token, {key.id: jwt.public_key(pem)}) == {"sub": "y"}


def test_keys_of_other_curves_are_refused() -> None:
    with pytest.raises(ValueError, match="P-256, P-384 or P-521"):
        jwt.signing_key(ec_pem(ec.SECP256K1)())


def test_a_token_has_one_spelling() -> None:
    key = jwt.signing_key(jwt.new_key())
    keys = {key.id: key.private.public_key()}
    for number in range(100):
        token = key.sign({"sub": str(number)})
        other = token.replace("-", "+").replace("_", "/")
        assert jwt.verify(token, keys) == {"sub": str(number)}
        for changed in {other, token + "=", token + "\n"} - {token}:
            with pytest.raises(jwt.BadToken):
                jwt.verify(changed, keys)


@pytest.mark.parametrize("pem", KEYS.values(), ids=KEYS)
def test_a_signed_token_is_verified_by_its_key_only(pem) -> None:
    key, other = jwt.signing_key(pem()), jwt.signing_key(jwt.new_key())
    token = key.sign({"sub": "x"})
    assert jwt.verify(token, {key.id: key.private.public_key()}) == {"sub": "x"}
    with pytest.raises(jwt.BadToken):
        jwt.verify(token, {other.id: other.private.public_key()})


def test_a_changed_token_is_refused() -> None:
    key = jwt.signing_key(jwt.new_key())
    head, _, signature = key.sign({"sub": "x"}).split(".")
    forged = key.sign({"sub": "root"}).split(".")[1]
    with pytest.raises(jwt.BadToken):
        jwt.verify(f"{head}.{forged}.{signature}", {key.id: key.private.public_key()})


@pytest.mark.parametrize("text", ["", "a.b", "a.b.c", "....", "!!.!!.!!"])
def test_what_is_no_token_is_refused(text) -> None:
    with pytest.raises(jwt.BadToken):
        jwt.unverified_claims(text)


def test_a_token_without_a_signature_is_refused() -> None:
    key = jwt.signing_key(jwt.new_key())
    head, claims, _ = key.sign({"sub": "x"}).split(".")
    with pytest.raises(jwt.BadToken):
        jwt.verify(f"{head}.{claims}.", {key.id: key.private.public_key()})
