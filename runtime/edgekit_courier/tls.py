"""TLS: by what a device knows the one it delivers to.

A certificate that is pinned is that side's own: then neither the name in it nor the clock of this device matters, which
is 1970 on a board without a battery until somebody tells it the time. What an authority has signed is looked at as
everywhere, with its name and its times.
"""

from __future__ import annotations

import ssl

from edgekit_courier.errors import Undelivered

NO_CHECK_TIME, PARTIAL_CHAIN = 0x200000, 0x80000
"""X509_V_FLAG_NO_CHECK_TIME and X509_V_FLAG_PARTIAL_CHAIN of OpenSSL 1.1; Python has no names for them before 3.10."""


def context(certificate: str, *, pinned: bool) -> ssl.SSLContext:
    """``certificate``: what the other side shows or what signs it, as PEM; "": the system knows.

    Raises: Undelivered for a certificate that is none.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if not certificate:
        made.load_default_certs()
        return made
    try:
        made.load_verify_locations(cadata=certificate)
    except ssl.SSLError as error:
        raise Undelivered(f"the certificate is none: {error.reason}") from error
    made.verify_flags |= ssl.VerifyFlags(PARTIAL_CHAIN)
    if pinned:
        made.check_hostname = False
        made.verify_flags |= ssl.VerifyFlags(NO_CHECK_TIME)
    return made
