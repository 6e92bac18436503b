"""The forms of names: DNS labels and subdomains, qualified names, label keys and values, ports, paths.

Every check gives a list of messages, empty if the value is right; a field error shows them as its detail.
Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/ and .../labels/, RFC 1123, RFC 1035.
"""

from __future__ import annotations

import re

LABEL_KEY = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
LABEL_VALUE = f"({LABEL_KEY})?"
DNS1123_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
DNS1123_SUBDOMAIN = f"{DNS1123_LABEL}(\\.{DNS1123_LABEL})*"
_UNDERSCORED = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
DNS1123_SUBDOMAIN_UNDERSCORE = f"{_UNDERSCORED}(\\.{_UNDERSCORED})*"
DNS1035_LABEL = "[a-z]([-a-z0-9]*[a-z0-9])?"
WILDCARD_SUBDOMAIN = f"\\*\\.{DNS1123_SUBDOMAIN}"
C_IDENTIFIER = "[A-Za-z_][A-Za-z0-9_]*"
PERCENT = "[0-9]+%"
HTTP_HEADER = "[-A-Za-z0-9]+"
HTTP_PATH = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"
CONFIG_KEY = "[-._a-zA-Z0-9]+"

LABEL_LENGTH = 63
SUBDOMAIN_LENGTH = 253

_LABEL_KEY_TEXT = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
)
_LABEL_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
    "and must start and end with an alphanumeric character"
)
_DNS1123_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
    "and must start and end with an alphanumeric character"
)
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character"
)
_SUBDOMAIN_UNDERSCORE_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', "
    "and must start and end with an alphanumeric character"
)
_DNS1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character"
)
_WILDCARD_TEXT = (
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of "
    "lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character"
)
_C_IDENTIFIER_TEXT = (
    "a valid C identifier must start with alphabetic character or '_', "
    "followed by a string of alphanumeric characters or '_'"
)
_RELAXED_ENV_TEXT = "a valid environment variable name must consist only of printable ASCII characters other than '='"

_label_key = re.compile(LABEL_KEY).fullmatch
_label_value = re.compile(LABEL_VALUE).fullmatch
_dns1123_label = re.compile(DNS1123_LABEL).fullmatch
_subdomain = re.compile(DNS1123_SUBDOMAIN).fullmatch
_subdomain_underscore = re.compile(DNS1123_SUBDOMAIN_UNDERSCORE).fullmatch
_dns1035_label = re.compile(DNS1035_LABEL).fullmatch
_wildcard = re.compile(WILDCARD_SUBDOMAIN).fullmatch
_c_identifier = re.compile(C_IDENTIFIER).fullmatch
_percent = re.compile(PERCENT).fullmatch
_http_header = re.compile(HTTP_HEADER).fullmatch
_config_key = re.compile(CONFIG_KEY).fullmatch
_port_characters = re.compile("[-a-z0-9]+").fullmatch
_letter = re.compile("[a-z]").search


def max_length_error(length: int) -> str:
    return f"must be no more than {length} characters"


def max_bytes_error(length: int) -> str:
    """The same for label keys and values, of which upstream counts bytes."""
    return f"must be no more than {length} bytes"


def regex_error(text: str, pattern: str, *examples: str) -> str:
    if not examples:
        return f"{text} (regex used for validation is '{pattern}')"
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{text} (e.g. {shown}regex used for validation is '{pattern}')"


def range_error(low: int, high: int) -> str:
    return f"must be between {low} and {high}, inclusive"


_NO_SUBDOMAIN = regex_error(_SUBDOMAIN_TEXT, DNS1123_SUBDOMAIN, "example.com")
EMPTY_ERROR = "must be non-empty"


def byte_length(value: str) -> int:
    """Lengths are in bytes of UTF-8, as upstream does."""
    return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))


def _too_long(value: str, limit: int) -> list[str]:
    return [max_length_error(limit)] if byte_length(value) > limit else []


def qualified_name(value: str) -> list[str]:
    """A label key: an optional DNS subdomain and ``/``, and a name of up to 63 characters."""
    errors: list[str] = []
    parts = value.split("/")
    if len(parts) > 2:
        text = regex_error(_LABEL_KEY_TEXT, LABEL_KEY, "MyName", "my.name", "123-abc")
        return [f"a valid label key {text} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"]
    name = parts[-1]
    if len(parts) == 2:
        if not parts[0]:
            errors.append(f"prefix part {EMPTY_ERROR}")
        else:
            errors += [f"prefix part {message}" for message in long_name(parts[0])]
    if not name:
        errors.append(f"name part {EMPTY_ERROR}")
    elif byte_length(name) > LABEL_LENGTH:
        errors.append(f"name part {max_bytes_error(LABEL_LENGTH)}")
    if not _label_key(name):
        errors.append("name part " + regex_error(_LABEL_KEY_TEXT, LABEL_KEY, "MyName", "my.name", "123-abc"))
    return errors


def long_name(value: str) -> list[str]:
    """A subdomain, where upstream counts bytes."""
    errors = [max_bytes_error(SUBDOMAIN_LENGTH)] if byte_length(value) > SUBDOMAIN_LENGTH else []
    return errors + ([] if _subdomain(value) else [_NO_SUBDOMAIN])


label_key = qualified_name


def label_value(value: str) -> list[str]:
    errors = [max_bytes_error(LABEL_LENGTH)] if byte_length(value) > LABEL_LENGTH else []
    if not _label_value(value):
        errors.append(regex_error(_LABEL_VALUE_TEXT, LABEL_VALUE, "MyValue", "my_value", "12345"))
    return errors


def dns1123_label(value: str) -> list[str]:
    errors = _too_long(value, LABEL_LENGTH)
    if not _dns1123_label(value):
        if _subdomain(value):
            errors.append("must not contain dots")
        else:
            errors.append(regex_error(_DNS1123_LABEL_TEXT, DNS1123_LABEL, "my-name", "123-abc"))
    return errors


def dns1123_subdomain(value: str) -> list[str]:
    errors = _too_long(value, SUBDOMAIN_LENGTH)
    if not _subdomain(value):
        errors.append(_NO_SUBDOMAIN)
    return errors


def dns1123_subdomain_with_underscore(value: str) -> list[str]:
    errors = _too_long(value, SUBDOMAIN_LENGTH)
    if not _subdomain_underscore(value):
        errors.append(regex_error(_SUBDOMAIN_UNDERSCORE_TEXT, DNS1123_SUBDOMAIN_UNDERSCORE, "example.com"))
    return errors


def dns1035_label(value: str) -> list[str]:
    errors = _too_long(value, LABEL_LENGTH)
    if not _dns1035_label(value):
        errors.append(regex_error(_DNS1035_TEXT, DNS1035_LABEL, "my-name", "abc-123"))
    return errors


def wildcard_dns1123_subdomain(value: str) -> list[str]:
    errors = _too_long(value, SUBDOMAIN_LENGTH)
    if not _wildcard(value):
        errors.append(regex_error(_WILDCARD_TEXT, WILDCARD_SUBDOMAIN, "*.example.com"))
    return errors


def c_identifier(value: str) -> list[str]:
    if _c_identifier(value):
        return []
    return [regex_error(_C_IDENTIFIER_TEXT, C_IDENTIFIER, "my_name", "MY_NAME", "MyName")]


def port_number(value: int) -> list[str]:
    return [] if 1 <= value <= 65535 else [range_error(1, 65535)]


def in_range(value: int, low: int, high: int) -> list[str]:
    return [] if low <= value <= high else [range_error(low, high)]


def user_id(value: int) -> list[str]:
    return in_range(value, 0, 2**31 - 1)


group_id = user_id


def port_name(value: str) -> list[str]:
    """A service name of RFC 6335: up to 15 lower case letters, digits and single hyphens, with one letter at least."""
    errors = _too_long(value, 15)
    if not _port_characters(value):
        errors.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not _letter(value):
        errors.append("must contain at least one letter (a-z)")
    if "--" in value:
        errors.append("must not contain consecutive hyphens")
    if value.startswith("-") or value.endswith("-"):
        errors.append("must not begin or end with a hyphen")
    return errors


def percent(value: str) -> list[str]:
    if _percent(value):
        return []
    text = "a valid percent string must be a numeric string followed by an ending '%'"
    return [regex_error(text, PERCENT, "1%", "93%")]


def http_header_name(value: str) -> list[str]:
    if _http_header(value):
        return []
    text = "a valid HTTP header must consist of alphanumeric characters or '-'"
    return [regex_error(text, HTTP_HEADER, "X-Header-Name")]


def relaxed_env_var_name(value: str) -> list[str]:
    if not value:
        return [f"environment variable name {EMPTY_ERROR}"]
    if any(c > "~" or c < " " or c == "=" for c in value):
        return [_RELAXED_ENV_TEXT]
    return []


def config_map_key(value: str) -> list[str]:
    errors = _too_long(value, SUBDOMAIN_LENGTH)
    if not _config_key(value):
        text = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
        errors.append(regex_error(text, CONFIG_KEY, "key.name", "KEY_NAME", "key-name"))
    return errors + _changes_folder(value)


def _changes_folder(value: str) -> list[str]:
    if value in (".", ".."):
        return [f"must not be '{value}'"]
    return ["must not start with '..'"] if value.startswith("..") else []


def path_segment_name(value: str) -> list[str]:
    """A name that can stand in a URL path: not ``.``, not ``..``, neither ``/`` nor ``%``."""
    if value in (".", ".."):
        return [f"may not be '{value}'"]
    return path_segment_prefix(value) if "/" in value or "%" in value else []


def path_segment_prefix(value: str) -> list[str]:
    return [f"may not contain '{character}'" for character in "/%" if character in value]


def for_prefix(value: str) -> str:
    """A generateName in the form in which it is checked: a letter for the trailing hyphen and what is before it."""
    return value[:-2] + "a" if len(value) > 1 and value.endswith("-") else value
