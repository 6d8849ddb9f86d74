"""Keys and certificates: who vouches for whom, and where the private keys lie."""

from relto.certificates import (
    ALGORITHM,
    LEAF_ROLES,
    LIFE,
    Identity,
    algorithm_of,
    decode_certificate,
    fingerprint,
    identity_of,
    spoken,
    verify_ca,
    verify_leaf,
)
from relto.issuing import issue, make_ca
from relto.keys.files import (
    SCRYPT,
    FileSigner,
    Passphrase,
    ScryptCost,
    ask_passphrase,
    read_passphrase,
    read_private_key,
    read_storage_key,
    write_private_key,
    write_storage_key,
)
from relto.keys.folder import KeyFolder, create_key_folder, issue_key, open_key_folder

__all__ = [
    "ALGORITHM",
    "LEAF_ROLES",
    "LIFE",
    "SCRYPT",
    "FileSigner",
    "Identity",
    "KeyFolder",
    "Passphrase",
    "ScryptCost",
    "algorithm_of",
    "ask_passphrase",
    "create_key_folder",
    "decode_certificate",
    "fingerprint",
    "identity_of",
    "issue",
    "issue_key",
    "make_ca",
    "open_key_folder",
    "read_passphrase",
    "read_private_key",
    "read_storage_key",
    "spoken",
    "verify_ca",
    "verify_leaf",
    "write_private_key",
    "write_storage_key",
]
