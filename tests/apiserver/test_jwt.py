import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tiphys.apiserver.authn import jwt


def rsa_pem() -> bytes:
    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize("pem", [jwt.new_key, rsa_pem], ids=["EC", "RSA"])
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
